"""Commands for what comes in from outside."""
