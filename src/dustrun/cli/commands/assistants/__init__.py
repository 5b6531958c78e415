"""What other programs use the command line for."""
