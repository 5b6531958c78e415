"""SQL for workflows and their versions."""
