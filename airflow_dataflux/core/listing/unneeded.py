"""Deleting the parts of a run that no manifest needs. What cannot be deleted is named in a warning, never an error."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from airflow_dataflux.core.errors import DatafluxError
from airflow_dataflux.core.manifest import ManifestFiles
from airflow_dataflux.core.manifest.location import join_uri

logger = logging.getLogger(__name__)

DELETES_IN_FLIGHT = 16


def delete_unneeded(files: ManifestFiles, parts_uri: str, run_id: str, *, needed: Sequence[str] = ()) -> None:
    """Delete the parts that the run has written to `parts_uri`, except for the `needed` ones. Never raises."""
    keep = set(needed)

    def delete(path: str) -> None:
        uri = join_uri(parts_uri, path)
        try:
            files.delete(uri)
        except (DatafluxError, OSError) as error:
            logger.warning("Could not delete %s, a part of a listing that was not published: %s", uri, error)

    try:
        own = [name for name in files.names(parts_uri) if f"part-{run_id}-" in name and name not in keep]
    except (DatafluxError, OSError) as error:
        logger.warning(
            "Could not look for parts part-%s-* of a listing that was not published in %s: %s", run_id, parts_uri, error
        )
        return
    if own:
        with ThreadPoolExecutor(DELETES_IN_FLIGHT) as deleters:
            list(deleters.map(delete, own))
