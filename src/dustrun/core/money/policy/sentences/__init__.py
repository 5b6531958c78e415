"""A wallet's spending policy in sentences, read and told."""

from dustrun.core.money.policy.sentences.reader import Misread, Names, Read, read_sentences
from dustrun.core.money.policy.sentences.writer import Told, tell

__all__ = ["Misread", "Names", "Read", "Told", "read_sentences", "tell"]
