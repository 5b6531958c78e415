"""A wallet's spending policy: the document, the verdict on one request, and whether one document is looser."""

from dustrun.core.money.policy.compare import is_looser
from dustrun.core.money.policy.counting import CountedUnits, PolicyRequest, Worth, count
from dustrun.core.money.policy.document import WalletPolicy, read_policy
from dustrun.core.money.policy.judge import VerdictFacts, judge, needs
from dustrun.core.money.policy.verdict import Allow, Ask, Deny, Reason, Verdict

__all__ = [
    "Allow",
    "Ask",
    "CountedUnits",
    "Deny",
    "PolicyRequest",
    "Reason",
    "Verdict",
    "VerdictFacts",
    "WalletPolicy",
    "Worth",
    "count",
    "is_looser",
    "judge",
    "needs",
    "read_policy",
]
