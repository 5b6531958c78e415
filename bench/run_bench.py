"""`python -m bench.run_bench`: see `scripts/bench`."""

import sys

from bench.runner import main

sys.exit(main("bench", sys.argv[1:]))
