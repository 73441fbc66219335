"""Airflow's door to the core: a connection in, manifests and receipts out.

The hook turns what DAG authors write into the core's requests, gives it the connection's tokens and its own cancel
token, and logs its progress. It raises the core's errors as they are; operators turn them into Airflow's outcomes.

Assumption: one call at a time, from the task's main thread (Airflow answers only that one).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_dataflux.compat import BaseHook, note_lineage, running_context
from airflow_dataflux.core.config import (
    DEFAULT_COMPOSITE_PREFIX,
    DEFAULT_MAX_COMPOSITE_BYTES,
    DEFAULT_STREAMS,
    Filters,
    ListRequest,
    RunIdentity,
    StageRequest,
    check_bucket_name,
    usable_cores,
)
from airflow_dataflux.core.errors import InvalidRequestError, ManifestNotFoundError
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.hooks import parameters
from airflow_dataflux.hooks.guard import Guard
from airflow_dataflux.hooks.narrator import Narrator

if TYPE_CHECKING:
    from airflow_dataflux.core.config import StoreConfig
    from airflow_dataflux.core.gcs.store import Store
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.core.namerange import NameRange
    from airflow_dataflux.core.report.notice import OnReport
    from airflow_dataflux.core.runtime.tokens import TokenSource
    from airflow_dataflux.core.staging import Receipt, SweepResult

_READ_CONNECTIONS = 8
"""Connections for reading a manifest's parts and for sweeping, one request a connection."""


class DatafluxHook(BaseHook):
    """List buckets and stage their data, with the credentials of a Google Cloud connection.

    Constructing it reads no connection. With ``STORAGE_EMULATOR_HOST`` set, everything goes to that address
    without credentials, whatever the connection says.

    :param gcp_conn_id: the Google Cloud connection.
    :param impersonation_chain: service account to impersonate, or a chain of them whose last one is used.
    """

    conn_name_attr = "gcp_conn_id"
    default_conn_name = "google_cloud_default"
    conn_type = "gcpdataflux"
    hook_name = "Google Cloud Dataflux"

    def __init__(
        self,
        gcp_conn_id: str = default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self._guard = Guard()
        self._tokens: TokenSource | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of a Google Cloud connection."""
        from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

        return GoogleBaseHook.get_connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows a Google Cloud connection."""
        from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

        return GoogleBaseHook.get_ui_field_behaviour()

    def test_connection(self) -> tuple[bool, str]:
        """Fetch a token, as the connection form's "Test" button asks."""
        from airflow_dataflux.core.errors import DatafluxError

        try:
            token = self.tokens.fetch()
        except DatafluxError as error:
            return False, str(error)
        return True, "Google handed out a token." if token else "Access is anonymous."

    def get_conn(self) -> Store:
        """Open the store. The caller closes it."""
        return self._open_store(None)

    @property
    def tokens(self) -> TokenSource:
        """Where requests get their access tokens."""
        if self._tokens is None:
            from airflow_dataflux.hooks.credentials import connection_tokens

            gcp_conn_id = parameters.required_text(self.gcp_conn_id, "gcp_conn_id")
            self._tokens = connection_tokens(gcp_conn_id, parameters.impersonation_chain(self.impersonation_chain))
        return self._tokens

    def cancel(self, reason: str) -> None:
        """End the call under way, and refuse those that follow. Safe in a signal handler; it raises nothing there."""
        self._guard.kill(reason)

    def fast_list(
        self,
        bucket: str,
        prefix: str | Sequence[str] = "",
        *,
        match_glob: str | None = None,
        storage_classes: str | Sequence[str] | None = None,
        updated_after: datetime | str | None = None,
        updated_before: datetime | str | None = None,
        min_bytes: int | str | None = None,
        max_bytes: int | str | None = None,
        include_placeholders: bool | str = False,
        manifest_uri: str | None = None,
        seed_manifest: Manifest | Mapping[str, Any] | str | None = None,
        name_range: NameRange | Mapping[str, str | None] | str | None = None,
        workers: int | str | None = None,
        streams: int | str | None = None,
        report: bool | str = True,
        on_report: OnReport | None = None,
        user_project: str | None = None,
    ) -> Manifest:
        """List a bucket: every object once, sorted by name, pinned by generation.

        The parameters are those of :class:`~airflow_dataflux.operators.fast_list.FastListOperator`; `on_report` is
        told of the report, once it is written.

        Raises an error of `airflow_dataflux.core.errors`; nothing was published then.
        """
        from airflow_dataflux.core.listing import list_objects

        seed = self.find_manifest(seed_manifest, user_project=user_project)
        request = ListRequest(
            bucket=check_bucket_name(bucket),
            prefixes=parameters.prefixes(prefix),
            filters=Filters(
                match_glob=parameters.optional_text(match_glob, "match_glob"),
                storage_classes=parameters.storage_classes(storage_classes),
                updated_after=parameters.optional_time(updated_after, "updated_after"),
                updated_before=parameters.optional_time(updated_before, "updated_before"),
                min_bytes=parameters.optional_count(min_bytes, "min_bytes"),
                max_bytes=parameters.optional_count(max_bytes, "max_bytes"),
                include_placeholders=parameters.flag(include_placeholders, "include_placeholders"),
            ),
            manifest_uri=parameters.optional_text(manifest_uri, "manifest_uri"),
            seed_manifest_uri=seed.uri if seed else None,
            workers=_or(parameters.positive_count(workers, "workers"), usable_cores()),
            streams=_or(parameters.positive_count(streams, "streams"), DEFAULT_STREAMS),
            name_range=parameters.name_range(name_range),
            report=parameters.flag(report, "report"),
        )
        note_lineage(self, inputs=[object_uri(bucket, each) for each in request.prefixes])
        narrator = Narrator(self.log.info)
        with self._guard.working() as cancel, narrator.telling("listing"):
            manifest = list_objects(
                request,
                store_config=self._store_config(user_project),
                tokens=self.tokens,
                cancel=cancel,
                on_progress=narrator.tell,
                on_report=on_report,
            )
        if manifest.uri is not None:
            note_lineage(self, outputs=[_as_uri(manifest.uri)])
        return manifest

    def name_ranges(
        self,
        bucket: str,
        prefix: str | Sequence[str] = "",
        *,
        ranges: int | str = 8,
        seed_manifest: Manifest | Mapping[str, Any] | str | None = None,
        user_project: str | None = None,
    ) -> list[NameRange]:
        """Divide a bucket's names into ranges of about equally many objects, for one listing each.

        `seed_manifest` divides best; without one, or as long as there is none yet, a sample of the bucket does. There
        are fewer than `ranges` where the names cannot be divided further. Join the listings with `join`.
        """
        from airflow_dataflux.core.gcs.client import open_store
        from airflow_dataflux.core.listing.dividing import SAMPLE_STREAMS, ranges_of, sampled_ranges

        count = parameters.positive_count(ranges, "ranges")
        if count is None:
            raise InvalidRequestError("ranges is empty: give a whole number of 1 or more.")
        check_bucket_name(bucket)
        prefixes = parameters.prefixes(prefix)
        seed = self.find_manifest(seed_manifest, user_project=user_project)
        if seed is not None:
            return ranges_of(seed, count)
        self.tokens.fetch()  # in the task's own thread: the sample's requests are sent by others
        with self._guard.working() as cancel:
            store = open_store(self._store_config(user_project), self.tokens, connections=SAMPLE_STREAMS, cancel=cancel)
            try:
                return sampled_ranges(bucket, prefixes, count, store=store)
            finally:
                store.close()

    def join(
        self,
        manifests: Iterable[Manifest | Mapping[str, Any] | str],
        manifest_uri: str,
        *,
        user_project: str | None = None,
    ) -> Manifest:
        """Join the listings of all name ranges of a bucket into one manifest, which is proven to be complete.

        Raises ManifestError if a range is missing or was listed twice; nothing is written then. The parts stay where
        the listings of the ranges put them: keep them as long as the joined manifest.
        """
        from airflow_dataflux.core.manifest import join_ranges

        uri = parameters.required_text(manifest_uri, "manifest_uri")
        with self._guard.working() as cancel, self._store(user_project) as store:
            opened: list[Manifest] = []
            for manifest in manifests:
                cancel.raise_if_cancelled()
                opened.append(self._opened(manifest, store))
            joined = join_ranges(opened, manifest_uri=uri, store=store)
        return self.open_manifest(joined.uri or uri, user_project=user_project)

    def stage(
        self,
        manifest: Manifest | Mapping[str, Any] | str,
        destination: str,
        *,
        strategy: str = "auto",
        max_composite_bytes: int | str = DEFAULT_MAX_COMPOSITE_BYTES,
        composite_prefix: str = DEFAULT_COMPOSITE_PREFIX,
        strip_prefix: str | None = "",
        delete_extraneous: bool | str = False,
        on_changed_object: str = "fail",
        max_in_flight: int | str | None = None,
        workers: int | str | None = None,
        dry_run: bool | str = False,
        report: bool | str = True,
        on_report: OnReport | None = None,
        user_project: str | None = None,
        identity: RunIdentity | None = None,
    ) -> Receipt:
        """Put a manifest's objects on local disk, verified, fetching only what is not there yet.

        The parameters are those of
        :class:`~airflow_dataflux.operators.compose_download.ComposeDownloadOperator`; `identity` names the
        temporary objects, and is that of the running task where there is one; `on_report` is told of the report.

        Raises an error of `airflow_dataflux.core.errors`; files published before stay as they are.
        """
        from airflow_dataflux.core.staging import stage

        request = StageRequest(
            destination=parameters.required_text(destination, "destination"),
            strategy=strategy,  # type: ignore[arg-type]  # the request itself checks the choice
            max_composite_bytes=parameters.required_count(max_composite_bytes, "max_composite_bytes"),
            composite_prefix=parameters.required_text(composite_prefix, "composite_prefix"),
            strip_prefix=parameters.optional_text(strip_prefix, "strip_prefix") or "",
            delete_extraneous=parameters.flag(delete_extraneous, "delete_extraneous"),
            on_changed_object=on_changed_object,  # type: ignore[arg-type]  # the same
            max_in_flight=parameters.positive_count(max_in_flight, "max_in_flight"),
            workers=_or(parameters.positive_count(workers, "workers"), usable_cores()),
            dry_run=parameters.flag(dry_run, "dry_run"),
            report=parameters.flag(report, "report"),
            identity=identity or running_identity(),
        )
        narrator = Narrator(self.log.info)
        with self._guard.working() as cancel, narrator.telling("preflight"), self._store(user_project) as store:
            source = self._opened(manifest, store)
            note_lineage(self, inputs=[object_uri(source.bucket, each) for each in source.prefixes])
            receipt = stage(
                source,
                request,
                store_config=self._store_config(user_project),
                tokens=self.tokens,
                cancel=cancel,
                on_progress=narrator.tell,
                on_report=on_report,
            )
        if not receipt.dry_run:
            note_lineage(self, outputs=[_as_uri(receipt.destination)])
        return receipt

    def sweep(
        self,
        bucket: str,
        *,
        composite_prefix: str = DEFAULT_COMPOSITE_PREFIX,
        older_than: timedelta | int | str = timedelta(days=1),
        dry_run: bool | str = False,
        user_project: str | None = None,
    ) -> SweepResult:
        """Delete composites that outlived their run: only objects that carry our name pattern and our metadata."""
        from airflow_dataflux.core.staging import sweep_composites

        with self._guard.working() as cancel, self._store(user_project) as store:
            cancel.raise_if_cancelled()
            return sweep_composites(
                check_bucket_name(bucket),
                composite_prefix=parameters.required_text(composite_prefix, "composite_prefix"),
                older_than=parameters.duration(older_than, "older_than"),
                dry_run=parameters.flag(dry_run, "dry_run"),
                store=store,
            )

    def lifecycle_rule(
        self, *, composite_prefix: str = DEFAULT_COMPOSITE_PREFIX, older_than: timedelta | int | str = timedelta(days=1)
    ) -> dict[str, Any]:
        """Return the entry of a bucket's lifecycle configuration that sweeps by itself. Sends no request."""
        from airflow_dataflux.core.staging import lifecycle_rule

        return lifecycle_rule(
            parameters.required_text(composite_prefix, "composite_prefix"),
            parameters.duration(older_than, "older_than"),
        )

    def open_manifest(
        self, manifest: Manifest | Mapping[str, Any] | str, *, user_project: str | None = None
    ) -> Manifest:
        """Open a manifest by its reference or URI. Raises ManifestNotFoundError, ManifestChangedError."""
        return self._opened(manifest, self._open_store(user_project))

    def find_manifest(
        self, manifest: Manifest | Mapping[str, Any] | str | None, *, user_project: str | None = None
    ) -> Manifest | None:
        """Open an earlier manifest that need not exist: None if nothing was given or there is none yet."""
        if manifest is None or (isinstance(manifest, str) and not parameters.optional_text(manifest, "seed_manifest")):
            return None  # before Arrow is imported, which a listing does while its first page is on its way
        from airflow_dataflux.core.manifest import Manifest

        if isinstance(manifest, Manifest):
            return manifest
        with Narrator(self.log.info).telling("preflight"):
            try:
                found = self.open_manifest(manifest, user_project=user_project)
            except ManifestNotFoundError as error:
                self.log.info("There is no earlier manifest yet to compare with or to start from: %s", error)
                return None
            self.log.info("An earlier manifest, %s, has %d objects", found.uri or "in XCom", len(found))
            return found

    def _opened(self, manifest: Manifest | Mapping[str, Any] | str, store: Store) -> Manifest:
        from airflow_dataflux.core.manifest import Manifest

        if isinstance(manifest, Manifest):
            return manifest
        reference = parameters.reference(manifest, "manifest")
        if reference is None:
            raise InvalidRequestError(
                "manifest is empty: give the return value of FastListOperator or a URI; a task that was skipped "
                "or has not run returns nothing."
            )
        return Manifest.from_reference(reference, store=store)

    def _store_config(self, user_project: str | None) -> StoreConfig:
        from airflow_dataflux.core.gcs.auth import default_store_config

        return default_store_config(parameters.optional_text(user_project, "user_project"))

    def _open_store(self, user_project: str | None) -> Store:
        from airflow_dataflux.core.gcs.client import open_store

        return open_store(self._store_config(user_project), self.tokens, connections=_READ_CONNECTIONS)

    @contextmanager
    def _store(self, user_project: str | None) -> Iterator[Store]:
        store = self._open_store(user_project)
        try:
            yield store
        finally:
            store.close()


def running_identity() -> RunIdentity:
    """Return who runs: Airflow's identifiers inside a task, free text outside one."""
    context = running_context()
    if context is None:
        return RunIdentity()
    ti = context["ti"]
    return RunIdentity(
        dag=ti.dag_id,
        run=ti.run_id,
        task=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        try_number=ti.try_number,
    )


def _as_uri(place: str) -> str:
    return f"file://{place}" if place.startswith("/") else place


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
