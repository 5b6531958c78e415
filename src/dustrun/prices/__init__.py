"""What a token is worth in US dollars; one file a source."""
