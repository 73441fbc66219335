"""What is in the buckets, and what a staging has put beside it."""

from __future__ import annotations

from airflow_dataflux.testing import GCSServer

OBJECTS = {f"images/{n:04}.jpg": bytes([n % 251]) * (1000 + n) for n in range(300)}


def composites(server: GCSServer, bucket: str, *, try_number: int | None = None) -> list[str]:
    """Return the names of the composites in the bucket, of one try or of all."""
    names = server.names(bucket, "dataflux-composed-objects/")
    # Their end is <try number>/<attempt>-<batch>-<round>.
    return [name for name in names if try_number is None or int(name.split("/")[-2]) == try_number]
