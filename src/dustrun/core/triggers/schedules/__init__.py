"""When schedules fire, and what becomes of the times that were missed."""
