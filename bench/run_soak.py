"""`python -m bench.run_soak`: see `scripts/soak`."""

import sys

from bench.runner import main

if __name__ == "__main__":  # processes of a pool import it too
    sys.exit(main("soak", sys.argv[1:]))
