"""Advances runs: plan, nodes, record, plan again."""
