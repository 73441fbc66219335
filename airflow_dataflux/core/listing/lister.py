"""List a bucket: the interface of this package.

The way of a listing:

1. The first page is asked for from the calling process (`first_page.py`). No token: the listing is done, with nothing
   started.
2. The rest is listed by threads of this process at first (`run.py`). Up to a few hundred pages that is faster
   than starting anything; most listings end here.
3. What is much larger is handed over: an engine process with worker processes lists what is left.
4. All finished ranges together must tile the request (`Ledger`), then the manifest is published, index last.

Guarantees: the manifest is complete, sorted and unique, or there is an error and nothing is published; when this
returns or raises, nothing that it started is running, and parts that no manifest needs are deleted, except where an
index that names them may have been published without our hearing of it.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_dataflux.core.config import ListRequest
from airflow_dataflux.core.errors import ListingError
from airflow_dataflux.core.gcs.store import StoreFactory, StoreOptions
from airflow_dataflux.core.listing.expectations import shown, warn_of_mistakes
from airflow_dataflux.core.listing.first_page import open_listing
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.location import INDEX_NAME, join_uri, manifest_location
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import TokenSource

if TYPE_CHECKING:
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.core.runtime.progress import Observer

logger = logging.getLogger(__name__)


def list_objects(
    request: ListRequest,
    *,
    store_config: StoreFactory,
    tokens: TokenSource,
    cancel: CancelToken | None = None,
    observer: Observer | None = None,
    isolated: bool = True,
) -> Manifest:
    """List what `request` asks for and return the published (or inline) manifest.

    Args:
        request: what to list, and where the manifest goes.
        store_config: where the bucket is; also used for a manifest on gs://.
        tokens: access tokens, asked for in the calling thread.
        cancel: stops the listing: CancelledError within seconds, nothing is published.
        observer: called in the calling thread with `Progress` every few seconds, with `ReportInfo` once a report is
            beside the manifest, and with `RunStatistics` at the end.
        isolated: list large buckets in an engine process with worker processes; else with threads of this process.

    Costs one request (class A) or more per 1,000 objects: 1.8 on average at 100,000 objects, 1.05 to 1.3 at a million;
    fewer for a large bucket where the service sends larger pages.

    Raises:
        ManifestTooLargeError: without `manifest_uri`, as soon as the listing is known not to fit into XCom.
        BucketNotFoundError, PermissionDeniedError, AuthenticationError: before anything is started.
        ManifestError: before anything is listed, if a hold or a retention policy keeps the manifest that is there, or
            the file there is somebody else's.
        InvalidRequestError: before anything is listed, if `manifest_uri` has a scheme whose package is not installed.
        EmptyListingError, SkippedError: the listing found what `on_empty` or `unchanged_fingerprint` do not want.
        IncompleteListingError: the listing could not be proven complete.
        UnavailableError, EngineError, CancelledError: as their names say; retrying may help for the first two.
    """
    # A token of our own: what goes wrong in here stops our jobs, and never looks like a cancel of the caller's.
    own = CancelToken()
    outer = cancel or CancelToken()
    with outer.waking(lambda: own.cancel(outer.reason)), _places(request) as parts_uri:
        logger.info("Listing %s.", shown(request))
        warn_of_mistakes(request)
        if request.manifest_uri is not None:
            _check_replaceable(parts_uri, store_config, tokens, own)
        opened = open_listing(request, store_config, tokens, own, meanwhile=_import_the_rest)
        # Not above: it is imported while the first page is on its way.
        from airflow_dataflux.core.listing.run import ListingRun

        return ListingRun(opened, request, store_config, tokens, own, observer, isolated, parts_uri).run()


def _import_the_rest() -> None:
    """Import what the rest of a listing needs: Arrow and most of this package, which takes longer than a page does."""
    import airflow_dataflux.core.listing.run  # noqa: F401


def _check_replaceable(uri: str, store_config: StoreFactory, tokens: TokenSource, cancel: CancelToken) -> None:
    """Find out before a listing is paid for what keeps its manifest from its place.

    That is a hold or a retention policy, somebody else's file, or a file system whose package is not installed.
    """
    if not uri.startswith("gs://"):
        ManifestFiles().check_replaceable(join_uri(uri, INDEX_NAME))
        return
    with contextlib.closing(store_config.open(tokens, StoreOptions(connections=1, cancel=cancel))) as store:
        ManifestFiles(store).check_replaceable(join_uri(uri, INDEX_NAME))


@contextlib.contextmanager
def _places(request: ListRequest) -> Iterator[str]:
    """Yield the URI where parts go: that of the manifest, or a directory that lives as long as the listing."""
    if request.manifest_uri is not None:
        yield manifest_location(request.manifest_uri).uri
        return
    try:
        directory = tempfile.mkdtemp(prefix="dataflux-listing-")
    except OSError as error:
        raise ListingError(
            f"There is no directory for temporary files, which a listing without manifest_uri needs ({error}). Set "
            "TMPDIR to one that can be written to, or give the listing a manifest_uri."
        ) from error
    try:
        yield manifest_location(directory).uri
    finally:
        shutil.rmtree(directory, ignore_errors=True)
