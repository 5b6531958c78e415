"""`python -m bench.run_bench`: see `scripts/bench`."""

import sys

from bench.runner import main

if __name__ == "__main__":
    sys.exit(main("bench", sys.argv[1:]))
