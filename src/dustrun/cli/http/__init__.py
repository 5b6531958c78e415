"""The HTTP client of the command line, and what turns its answers into errors."""
