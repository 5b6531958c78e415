"""SQL for runs, executions, events, waits, approvals and forks."""
