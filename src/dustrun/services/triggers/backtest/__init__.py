"""Back-tests: a workflow on the events of the past."""
