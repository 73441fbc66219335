"""Packing: turn a manifest's objects into tar shards that a training loop streams, verified, the same every time.

`pack` does it; where several tasks pack a part each, `join_parts` writes the one index.
"""

from __future__ import annotations

from airflow_dataflux.core.packing.finishing import PackResult, PackSource
from airflow_dataflux.core.packing.pack_join import join_parts
from airflow_dataflux.core.packing.pack_output import PackOutput
from airflow_dataflux.core.packing.packer import pack

__all__ = ["PackOutput", "PackResult", "PackSource", "join_parts", "pack"]
