"""The assistant: turns of conversations, in which a model calls tools in the name of a key that may do less."""
