"""Names under which secrets stand: the one list for logs, exports, what the editor copies, and warnings about headers.

Who uses it decides where in a name they count: a log masks them anywhere, an export at the end of a name.
Regular expressions, written in what Python and JavaScript share, without regard to case.
"""

from __future__ import annotations

from typing import Final

WORDS: Final = "authorization|cookie|secret|password|passphrase|api[_-]?key|private[_-]?key|mnemonic"
SENT: Final = "auth|cookie|token|secret|key|passw|passphrase|mnemonic|signature|(^|[-_])sign$|session|credential|jwt"
"""Parts of names of headers and parameters of a request, for what is not shown and not sent to another origin."""
TOKENS: Final = "(?:access|auth|bearer|refresh|session|bot)[_-]?token"
"""Tokens that are no assets of a chain."""
