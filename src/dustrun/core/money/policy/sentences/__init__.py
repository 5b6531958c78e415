"""A wallet's spending policy in sentences, read and told."""

from dustrun.core.money.policy.sentences.reader import Misread, Names, PolicyReading, read_sentences
from dustrun.core.money.policy.sentences.writer import WrittenPolicy, statements_of, tell

__all__ = ["Misread", "Names", "PolicyReading", "WrittenPolicy", "read_sentences", "statements_of", "tell"]
