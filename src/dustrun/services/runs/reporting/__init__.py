"""Reports of runs: what a run and those that it called did, what differs between two, what shaped their spends."""
