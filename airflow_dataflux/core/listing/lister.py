"""List a bucket: the interface of this package.

The way of a listing:

1. The first page is asked for from the calling process (`opening.py`). No token: the listing is done, with nothing
   started.
2. The rest is listed by threads of this process at first (`listingrun.py`). Up to a few hundred pages that is faster
   than starting anything; most listings end here.
3. What is much larger is handed over: an engine process with worker processes lists what is left.
4. All finished ranges together must tile the request (`Ledger`), then the manifest is published, index last.

Guarantees: the manifest is complete, sorted and unique, or there is an error and nothing is published; when this
returns or raises, nothing that it started is running, and parts that no manifest needs are deleted.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from airflow_dataflux.core.config import ListRequest, StoreConfig
from airflow_dataflux.core.listing.opening import open_listing, shown
from airflow_dataflux.core.manifest.location import manifest_location
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import TokenSource

if TYPE_CHECKING:
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.core.report.notice import OnReport
    from airflow_dataflux.core.runtime.progress import Progress

logger = logging.getLogger(__name__)


def list_objects(
    request: ListRequest,
    *,
    store_config: StoreConfig,
    tokens: TokenSource,
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_report: OnReport | None = None,
    isolated: bool = True,
) -> Manifest:
    """List what `request` asks for and return the published (or inline) manifest.

    Args:
        request: what to list, and where the manifest goes.
        store_config: where the bucket is; also used for a manifest on gs://.
        tokens: access tokens, asked for in the calling thread.
        cancel: stops the listing: CancelledError within seconds, nothing is published.
        on_progress: called in the calling thread, every few seconds.
        on_report: called once the report is beside the manifest, if the request asks for one.
        isolated: list large buckets in an engine process with worker processes; else with threads of this process.

    Costs about one request (class A) per 1,000 objects, and at most a tenth more; fewer for a large bucket where the
    service sends larger pages.

    Raises:
        ManifestTooLargeError: without `manifest_uri`, as soon as the listing is known not to fit into XCom.
        BucketNotFoundError, PermissionDeniedError, AuthenticationError: before anything is started.
        IncompleteListingError: the listing could not be proven complete.
        UnavailableError, EngineError, CancelledError: as their names say; retrying may help for the first two.
    """
    # A token of our own: what goes wrong in here stops our jobs, and never looks like a cancel of the caller's.
    own = CancelToken()
    outer = cancel or CancelToken()
    with outer.waking(lambda: own.cancel(outer.reason)), _places(request) as parts_uri:
        logger.info("Listing %s.", shown(request))
        opening = open_listing(request, store_config, tokens, own)
        # Not above: it is imported while the first page is on its way.
        from airflow_dataflux.core.listing.listingrun import ListingRun

        return ListingRun(opening, request, store_config, tokens, own, on_progress, isolated, parts_uri).run(on_report)


@contextlib.contextmanager
def _places(request: ListRequest) -> Iterator[str]:
    """Yield the URI where parts go: that of the manifest, or a directory that lives as long as the listing."""
    if request.manifest_uri is not None:
        yield manifest_location(request.manifest_uri).uri
        return
    directory = tempfile.mkdtemp(prefix="dataflux-listing-")
    try:
        yield manifest_location(directory).uri
    finally:
        shutil.rmtree(directory, ignore_errors=True)
