"""What expressions give in runs that have happened."""
