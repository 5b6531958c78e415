"""Backup, restore, and detection of copied stores; vault rotation and reset."""
