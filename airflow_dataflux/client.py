"""List buckets and stage their data from scripts and notebooks, without Airflow.

    from airflow_dataflux import Client

    client = Client()
    manifest = client.list("my-bucket", prefix="train/", manifest_uri="gs://my-manifests/train")
    receipt = client.stage(manifest, "/data/train")

The Airflow hook and the command line use `Client`. Values may have the form that they have in a DAG file: numbers as
digits, times as ISO 8601, several prefixes as a list. The requests in `airflow_dataflux.core.config` declare every
parameter.

Every method raises errors of `airflow_dataflux.core.errors`. After an error, nothing incomplete is published. A
`cancel` token, or an exception such as KeyboardInterrupt, ends the work within seconds and deletes temporary objects.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_dataflux.core.config import (
    DEFAULT_COMPOSITE_PREFIX,
    DEFAULT_MAX_COMPOSITE_BYTES,
    DEFAULT_NAME_TEMPLATE,
    DEFAULT_OLDER_THAN,
    DEFAULT_PACK_SHARD_BYTES,
    DEFAULT_RANGES,
    JoinPacksRequest,
    JoinRequest,
    ListRequest,
    PackRequest,
    PruneRequest,
    RangesRequest,
    RunIdentity,
    SelectRequest,
    StageRequest,
    SweepRequest,
)
from airflow_dataflux.core.errors import InvalidRequestError, ManifestError, ManifestNotFoundError
from airflow_dataflux.core.parameters import (
    is_absent,
    optional_text,
    parameters_of,
    reference,
    references,
    request_from,
    skips_unchanged,
    summaries,
)

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from airflow_dataflux.core.config import (
        DeleteExtraneous,
        OnChangedObject,
        OnEmpty,
        OnUnchanged,
        OnUnreadableObject,
        OnUnsafeName,
        Strategy,
    )
    from airflow_dataflux.core.gcs.store import Store, StoreFactory
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.core.namerange import NameRange
    from airflow_dataflux.core.packing import PackResult
    from airflow_dataflux.core.packing.pack_index import PackDescription
    from airflow_dataflux.core.runtime.cancel import CancelToken
    from airflow_dataflux.core.runtime.progress import Observer
    from airflow_dataflux.core.runtime.tokens import TokenSource
    from airflow_dataflux.core.staging import Receipt, SweepResult
    from airflow_dataflux.core.staging.pruning import PruneResult

    Source = Manifest | Mapping[str, Any] | str
    """A manifest, its reference, or its URI."""

    # Outside of the class, in which `list` is a method.
    Ranges = list[NameRange]
    Manifests = list[Manifest]

_logger = logging.getLogger(__name__)

_READ_CONNECTIONS = 8
"""Connections for reading a manifest's parts and for sweeping, one request a connection."""


class Client:
    """Cloud Storage for one set of credentials. Making a client sends no request. A client can be used many times.

    If ``STORAGE_EMULATOR_HOST`` is set, all requests go to that address without credentials.

    Args:
        credentials: of google-auth; None: the application-default credentials, as Google's own tools find them.
        user_project: project billed on requester-pays buckets.
        tokens: another source of access tokens, in place of credentials.
        store: where the buckets are; None: Cloud Storage, or the emulator of the environment.
    """

    def __init__(
        self,
        *,
        credentials: Credentials | None = None,
        user_project: str | None = None,
        tokens: TokenSource | None = None,
        store: StoreFactory | None = None,
    ) -> None:
        self._credentials = credentials
        self._user_project = user_project
        self._tokens = tokens
        self._given_store = store

    @property
    def tokens(self) -> TokenSource:
        """Where requests get their access tokens."""
        if self._tokens is None:
            from airflow_dataflux.core.gcs.auth import CredentialTokens, default_tokens

            self._tokens = default_tokens() if self._credentials is None else CredentialTokens(self._credentials)
        return self._tokens

    @property
    def store_factory(self) -> StoreFactory:
        """How the buckets are reached."""
        if self._given_store is not None:
            return self._given_store
        from airflow_dataflux.core.gcs.auth import default_store_config

        return default_store_config(optional_text(self._user_project, "user_project"))

    def list(
        self,
        bucket: str,
        prefix: str | Sequence[str] = "",
        *,
        match_glob: str | None = None,
        exclude_glob: str | Sequence[str] | None = None,
        storage_classes: str | Sequence[str] | None = None,
        updated_after: datetime | str | None = None,
        updated_before: datetime | str | None = None,
        min_bytes: int | str | None = None,
        max_bytes: int | str | None = None,
        include_placeholders: bool | str = False,
        manifest_uri: str | None = None,
        seed_manifest: Source | None = None,
        on_unchanged: OnUnchanged = "continue",
        on_empty: OnEmpty = "continue",
        name_range: NameRange | Mapping[str, str | None] | str | None = None,
        workers: int | str | None = None,
        streams: int | str | None = None,
        report: bool | str = True,
        identity: RunIdentity | None = None,
        observer: Observer | None = None,
        cancel: CancelToken | None = None,
    ) -> Manifest:
        """List a bucket: every object once, sorted by name, pinned by generation.

        The manifest has `identity`, so that a later run can find out how this run ended. With `on_unchanged="skip"` or
        `on_empty="skip"`, SkippedError may be raised; nothing is published then.
        """
        from airflow_dataflux.core.listing import list_objects

        values = {name: value for name, value in locals().items() if name in parameters_of(ListRequest)}
        skip = skips_unchanged(values["on_unchanged"])
        seed = self.find_manifest(seed_manifest)
        request = request_from(
            ListRequest,
            values,
            seed_manifest_uri=seed.uri if seed else None,
            unchanged_fingerprint=seed.fingerprint if seed and skip else None,
            identity=identity,
        )
        return list_objects(
            request, store_config=self.store_factory, tokens=self.tokens, cancel=cancel, observer=observer
        )

    def name_ranges(
        self,
        bucket: str,
        prefix: str | Sequence[str] = "",
        *,
        ranges: int | str = DEFAULT_RANGES,
        seed_manifest: Source | None = None,
        cancel: CancelToken | None = None,
    ) -> Ranges:
        """Divide a bucket's names into ranges of about equally many objects, for one listing each; see `join`."""
        from airflow_dataflux.core.gcs.http_store import open_store
        from airflow_dataflux.core.listing.sampling import SAMPLE_STREAMS, sampled_ranges
        from airflow_dataflux.core.listing.seeds import ranges_of

        seed = self.find_manifest(seed_manifest)
        request = request_from(
            RangesRequest,
            {"bucket": bucket, "prefix": prefix, "ranges": ranges},
            seed_manifest_uri=seed.uri if seed else None,
        )
        if seed is not None:
            return ranges_of(seed, request.ranges)
        self.tokens.fetch()  # in the calling thread: the sample's requests are sent by others
        store = open_store(self.store_factory, self.tokens, connections=SAMPLE_STREAMS, cancel=cancel)
        with contextlib.closing(store):
            return sampled_ranges(request.bucket, request.prefixes, request.ranges, store=store)

    def join(
        self,
        manifests: Iterable[Source],
        manifest_uri: str,
        *,
        on_empty: OnEmpty = "continue",
        cancel: CancelToken | None = None,
    ) -> Manifest:
        """Join the listings of all name ranges of a bucket into one manifest, which is proven to be complete.

        Raises ManifestError if a range is missing or was listed twice; nothing is written then. The joined manifest
        refers to the parts of the ranges: keep them as long as the joined manifest.
        """
        from airflow_dataflux.core.listing.expectations import check_result
        from airflow_dataflux.core.manifest import Manifest, join_ranges
        from airflow_dataflux.core.manifest.index import Index

        request = request_from(JoinRequest, {"manifest_uri": manifest_uri, "on_empty": on_empty})

        def check(index: Index) -> None:
            listed = ListRequest(bucket=index.bucket, prefixes=tuple(index.prefixes), on_empty=request.on_empty)
            check_result(listed, index)

        with self._reading() as store:
            opened: Manifests = []
            for manifest in references(manifests, Manifest):
                if cancel is not None:
                    cancel.raise_if_cancelled()
                opened.append(self._opened(manifest, store))
            joined = join_ranges(opened, manifest_uri=request.manifest_uri, store=store, before_writing=check)
        return self.open_manifest(joined.uri or request.manifest_uri)

    def select(
        self,
        manifest: Source,
        *,
        manifest_uri: str | None = None,
        include_glob: str | Sequence[str] | None = None,
        exclude_glob: str | Sequence[str] | None = None,
        match_regex: str | None = None,
        min_bytes: int | str | None = None,
        max_bytes: int | str | None = None,
        updated_after: datetime | str | None = None,
        updated_before: datetime | str | None = None,
        storage_classes: str | Sequence[str] | None = None,
        group_by: str | None = None,
        sample: float | str | None = None,
        per_group: int | str | None = None,
        seed: int | str = 0,
        class_by: str | None = None,
        splits: Mapping[str, float] | str | None = None,
        on_empty: OnEmpty = "continue",
        cancel: CancelToken | None = None,
    ) -> Manifest | dict[str, Manifest]:
        """Choose objects of a manifest; no sample is divided. With `splits`, return manifests by the splits' names."""
        from airflow_dataflux.core.gcs.http_store import open_store
        from airflow_dataflux.core.manifest.deriving import select

        values = {name: value for name, value in locals().items() if name in parameters_of(SelectRequest)}
        request = request_from(SelectRequest, values)
        # Not closed: what is returned reads its parts through it.
        store = open_store(self.store_factory, self.tokens, connections=_READ_CONNECTIONS, cancel=cancel)
        made = select(self._opened(manifest, store), request, store=store)
        return made if request.splits is not None else made[""]

    def stage(
        self,
        manifest: Source,
        destination: str,
        *,
        strategy: Strategy = "auto",
        max_composite_bytes: int | str = DEFAULT_MAX_COMPOSITE_BYTES,
        composite_prefix: str = DEFAULT_COMPOSITE_PREFIX,
        strip_prefix: str = "",
        delete_extraneous: DeleteExtraneous | str = False,
        on_changed_object: OnChangedObject = "fail",
        on_unreadable_object: OnUnreadableObject = "fail",
        on_unsafe_name: OnUnsafeName = "fail",
        decompress: bool | str = False,
        reuse_from: str | Sequence[str] | None = None,
        receipt_directory: str | None = None,
        max_in_flight: int | str | None = None,
        workers: int | str | None = None,
        max_usd: float | str | None = None,
        dry_run: bool | str = False,
        report: bool | str = True,
        identity: RunIdentity | None = None,
        observer: Observer | None = None,
        cancel: CancelToken | None = None,
    ) -> Receipt:
        """Stage a manifest's objects on local disk. Each file is verified; only missing files are fetched.

        `identity` names the temporary objects. Files published before an error stay as they are.
        """
        from airflow_dataflux.core.staging import stage

        values = {name: value for name, value in locals().items() if name in parameters_of(StageRequest)}
        request = request_from(StageRequest, values, identity=identity or RunIdentity())
        with self._reading() as store:
            return stage(
                self._opened(manifest, store),
                request,
                store_config=self.store_factory,
                tokens=self.tokens,
                cancel=cancel,
                observer=observer,
            )

    def pack(
        self,
        manifest: Source,
        output: str,
        *,
        shard_bytes: int | str = DEFAULT_PACK_SHARD_BYTES,
        shard_count: int | str | None = None,
        sample_by: str = "webdataset",
        shuffle_seed: int | str | None = None,
        name_template: str = DEFAULT_NAME_TEMPLATE,
        on_changed_object: OnChangedObject = "fail",
        strategy: Strategy = "auto",
        max_composite_bytes: int | str = DEFAULT_MAX_COMPOSITE_BYTES,
        composite_prefix: str = DEFAULT_COMPOSITE_PREFIX,
        max_in_flight: int | str | None = None,
        workers: int | str | None = None,
        max_usd: float | str | None = None,
        dry_run: bool | str = False,
        report: bool | str = True,
        identity: RunIdentity | None = None,
        observer: Observer | None = None,
        cancel: CancelToken | None = None,
    ) -> PackResult:
        """Write a manifest's objects into tar shards; only missing shards are written.

        `identity` names the temporary objects. Shards published before an error stay as they are.
        """
        from airflow_dataflux.core.packing import pack

        values = {name: value for name, value in locals().items() if name in parameters_of(PackRequest)}
        request = request_from(PackRequest, values, identity=identity or RunIdentity())
        with self._reading() as store:
            return pack(
                self._opened(manifest, store),
                request,
                store_config=self.store_factory,
                tokens=self.tokens,
                cancel=cancel,
                observer=observer,
            )

    def join_packs(
        self,
        packs: Iterable[PackResult | Mapping[str, Any]],
        *,
        report: bool | str = True,
        identity: RunIdentity | None = None,
        observer: Observer | None = None,
    ) -> PackResult:
        """Write the index of a pack whose shards were written by several calls, one for each shard of a manifest.

        Raises InvalidRequestError unless these are all parts of one pack, each once; PackError if a shard is missing.
        """
        from airflow_dataflux.core.packing import PackOutput, PackResult, join_parts

        request = request_from(JoinPacksRequest, {"report": report}, identity=identity or RunIdentity())
        parts = [
            each if isinstance(each, PackResult) else PackResult.from_summary(each)
            for each in summaries(packs, "packs")
        ]
        with self._reading() as store:
            output = PackOutput(parts[0].output, store)
            try:
                return join_parts(output, parts, request, observer=observer)
            finally:
                output.close()

    def find_pack(self, output: str) -> PackDescription | None:
        """Return the result of a pack from its index; None if there is no index, or the parts are not joined yet."""
        from airflow_dataflux.core.packing import PackOutput
        from airflow_dataflux.core.packing.pack_index import INDEX_NAME, decode_index

        with self._reading() as store:
            data = PackOutput(output, store).read(INDEX_NAME)
        return None if data is None else decode_index(data)

    def sweep(
        self,
        bucket: str,
        *,
        composite_prefix: str = DEFAULT_COMPOSITE_PREFIX,
        older_than: timedelta | int | str = DEFAULT_OLDER_THAN,
        dry_run: bool | str = False,
    ) -> SweepResult:
        """Delete leftovers: only objects with both our name pattern and our metadata."""
        from airflow_dataflux.core.staging import sweep_composites

        values = {name: value for name, value in locals().items() if name in parameters_of(SweepRequest)}
        request = request_from(SweepRequest, values)
        with self._reading() as store:
            return sweep_composites(
                request.bucket,
                composite_prefix=request.composite_prefix,
                older_than=request.older_than,
                dry_run=request.dry_run,
                store=store,
            )

    def prune(
        self,
        root: str,
        pattern: str = "*",
        *,
        keep_last: int | str | None = None,
        older_than: timedelta | int | str | None = None,
        max_total_bytes: int | str | None = None,
        dry_run: bool | str = False,
    ) -> PruneResult:
        """Remove old staged trees below a local directory, the oldest first. Leased trees, and trees being staged, are
        kept.
        """
        from airflow_dataflux.core.staging.pruning import prune_staged

        values = {name: value for name, value in locals().items() if name in parameters_of(PruneRequest)}
        return prune_staged(request_from(PruneRequest, values))

    def lease(self, destination: str) -> AbstractContextManager[None]:
        """Keep a staged tree from being pruned in a `with` block, or until this process ends."""
        from airflow_dataflux.core.staging.pruning import lease

        return lease(destination)

    def open_manifest(self, manifest: Source) -> Manifest:
        """Open a manifest by its reference or URI. Raises ManifestNotFoundError, ManifestChangedError."""
        # Not closed: the manifest reads its parts through it, as long as it lives.
        return self._opened(manifest, self._open_store())

    def find_manifest(self, manifest: Source | None) -> Manifest | None:
        """Open an earlier manifest; None if the argument is empty or the manifest does not exist yet."""
        if manifest is None or is_absent(manifest):
            return None  # before Arrow is imported, which a listing does while its first page is on its way
        from airflow_dataflux.core.manifest import Manifest
        from airflow_dataflux.core.report.formatting import plural

        if isinstance(manifest, Manifest):
            return manifest
        try:
            found = self._opened(manifest, self._open_store(), "seed_manifest")
        except ManifestNotFoundError as error:
            place = error.details.get("uri", manifest)
            _logger.info("There is no earlier manifest at %s yet, so everything is new", place)
            return None
        except ManifestError as error:
            _logger.warning(
                "The earlier manifest cannot be used. The bucket is listed without it, and counts as changed: %s", error
            )
            return None
        _logger.info("The earlier manifest, %s, has %s", found.uri or "in XCom", plural(len(found), "object"))
        return found

    def _opened(self, manifest: Source, store: Store, parameter: str = "manifest") -> Manifest:
        from airflow_dataflux.core.manifest import Manifest

        if isinstance(manifest, Manifest):
            return manifest
        found = reference(manifest, parameter)
        if found is None:
            raise InvalidRequestError(
                f"{parameter} is empty: give a manifest's reference or its URI; an Airflow task that was skipped or "
                "has not run returns nothing."
            )
        return Manifest.from_reference(found, store=store)

    def _open_store(self) -> Store:
        from airflow_dataflux.core.gcs.http_store import open_store

        return open_store(self.store_factory, self.tokens, connections=_READ_CONNECTIONS)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Store]:
        with contextlib.closing(self._open_store()) as store:
            yield store
