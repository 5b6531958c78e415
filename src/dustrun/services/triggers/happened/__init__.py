"""What happens in this server, for the triggers that watch it."""
