"""What outsiders once found, as worlds that look for it: `roads`, and as planted faults: `mutants`."""
