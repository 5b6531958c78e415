"""SQL of runs, executions, events, waits, approvals and forks."""
