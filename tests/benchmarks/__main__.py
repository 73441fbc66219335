"""Run the benchmarks: `python tests/benchmarks list --help`."""

import os
import sys

# The checkout, so that what is measured is what is here, whether it is installed or not.
sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from dataflux_bench.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
