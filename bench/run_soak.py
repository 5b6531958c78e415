"""`python -m bench.run_soak`: see `scripts/soak`."""

import sys

from bench.runner import main

sys.exit(main("soak", sys.argv[1:]))
