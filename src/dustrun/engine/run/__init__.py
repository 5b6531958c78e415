"""Advances one run: plan, start nodes, record results, handle signals, recover."""
