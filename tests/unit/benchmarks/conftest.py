"""Make the benchmark's harness importable; it is a program of its own, not a package of this project."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "benchmarks"))
