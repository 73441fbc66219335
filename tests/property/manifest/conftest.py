"""Makes the manifest samples importable: test directories are no packages, and one copy is enough."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "unit/core/manifest"))
