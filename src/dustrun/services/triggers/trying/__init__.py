"""What triggers will do, and what they would see: nothing is armed."""
