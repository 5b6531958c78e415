"""What declarations of operations are made of."""
