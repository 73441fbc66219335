"""How often the suites that draw at random are run: a few times in `make test`, often when a release is judged.

STAGING_FAULT_RUNS=300 STAGING_KILLS=50 pytest tests/integration/staging -k "exactness or kills"
"""

from __future__ import annotations

import os

FAULT_RUNS = int(os.environ.get("STAGING_FAULT_RUNS", "9"))
KILLS = int(os.environ.get("STAGING_KILLS", "3"))
SEED = int(os.environ.get("STAGING_SEED", "0"))
