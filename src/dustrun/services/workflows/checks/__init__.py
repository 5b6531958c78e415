"""Checks of a definition against the chains, workflows and guards that there are."""
