"""`python -m airflow_dataflux` is the command line `dataflux`."""

from __future__ import annotations

import sys

from airflow_dataflux.cli import main

if __name__ == "__main__":
    sys.exit(main())
