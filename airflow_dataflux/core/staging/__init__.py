"""Staging: put a manifest's objects on local disk, verified, atomically, and leave a receipt.

`stage` does it; `staged_files` says which files are there now; `sweep_composites` deletes temporary objects that killed
stagings left in a bucket, and `lifecycle_rule` makes the bucket do so itself.
"""

from __future__ import annotations

from airflow_dataflux.core.staging.composites import SweepResult, lifecycle_rule, sweep_composites
from airflow_dataflux.core.staging.receipt import Receipt
from airflow_dataflux.core.staging.staged_files import staged_files
from airflow_dataflux.core.staging.stager import stage

__all__ = ["Receipt", "SweepResult", "lifecycle_rule", "stage", "staged_files", "sweep_composites"]
