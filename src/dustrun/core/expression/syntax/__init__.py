"""The grammar: text to tree and back."""
