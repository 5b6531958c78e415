"""Engine hosts decide which process advances which run: the embedded host and its admission."""
