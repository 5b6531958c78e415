"""`dustrun hooks`: outbound hooks and their deliveries."""
