"""SQL of workflows and their versions."""
