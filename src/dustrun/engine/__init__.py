"""Advances runs: plan, execute nodes, record, plan again."""
