"""The hook: lists and stages with the credentials of an Airflow connection.

It works through `Client`, which makes the core's requests from the parameters of DAG authors. It adds the connection's
tokens, its own cancel token, and the log of the progress. It raises the core's errors; the operators turn them into
Airflow's outcomes.

Assumption: one call at a time, from the task's main thread (Airflow answers only that one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_dataflux.client import Client
from airflow_dataflux.compat import BaseHook, note_lineage, running_context
from airflow_dataflux.core import parameters
from airflow_dataflux.core.config import RunIdentity, SweepRequest
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.hooks.log_groups import LogGroups
from airflow_dataflux.hooks.task_watch import TaskWatch

if TYPE_CHECKING:
    from airflow_dataflux.core.gcs.store import Store
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.core.namerange import NameRange
    from airflow_dataflux.core.packing import PackResult
    from airflow_dataflux.core.runtime.progress import Observer, RunEvent
    from airflow_dataflux.core.runtime.tokens import TokenSource
    from airflow_dataflux.core.staging import Receipt, SweepResult
    from airflow_dataflux.core.staging.pruning import PruneResult

_READ_CONNECTIONS = 8
"""Connections of the store that `get_conn` opens."""


class DatafluxHook(BaseHook):
    """List buckets and stage their data, with the credentials of a Google Cloud connection.

    Making a hook does not read the connection. If ``STORAGE_EMULATOR_HOST`` is set, all requests go to that address
    without credentials, and the connection is ignored.

    :param gcp_conn_id: the Google Cloud connection.
    :param impersonation_chain: service account to impersonate, or a chain of them; the last one is used.
    :param lineage: report inputs and outputs to Airflow's hook lineage. The operators do not need it, because they have
        their own facets.
    """

    conn_name_attr = "gcp_conn_id"
    default_conn_name = "google_cloud_default"
    conn_type = "gcpdataflux"
    hook_name = "Google Cloud Dataflux"

    def __init__(
        self,
        gcp_conn_id: str = default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
        *,
        lineage: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._lineage = lineage
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self._watch = TaskWatch()
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
        from airflow_dataflux.core.gcs.http_store import open_store

        return open_store(Client().store_factory, self.tokens, connections=_READ_CONNECTIONS)

    @property
    def tokens(self) -> TokenSource:
        """Where requests get their access tokens."""
        if self._tokens is None:
            from airflow_dataflux.hooks.credentials import connection_tokens

            gcp_conn_id = parameters.optional_text(self.gcp_conn_id, "gcp_conn_id") or self.default_conn_name
            self._tokens = connection_tokens(gcp_conn_id, parameters.impersonation_chain(self.impersonation_chain))
        return self._tokens

    def cancel(self, reason: str) -> None:
        """End the running call, and refuse later calls. Safe in a signal handler; raises nothing."""
        self._watch.kill(reason)

    def fast_list(
        self,
        bucket: str,
        prefix: str | Sequence[str] = "",
        *,
        identity: RunIdentity | None = None,
        observer: Observer | None = None,
        user_project: str | None = None,
        **options: Any,
    ) -> Manifest:
        """List a bucket: every object once, sorted by name, pinned by generation.

        The options are those of :meth:`airflow_dataflux.client.Client.list`. The manifest has `identity`; the default
        is the identity of the running task. With `on_unchanged="skip"` or `on_empty="skip"`, SkippedError may be
        raised. After any error, nothing is published.
        """
        options["seed_manifest"] = self.find_manifest(options.get("seed_manifest"), user_project=user_project)
        self._note(inputs=lambda: [object_uri(bucket, each) for each in parameters.prefixes(prefix)])
        identity = identity or running_identity()
        with self._running(observer) as watched:
            manifest = self._client(user_project).list(bucket, prefix, identity=identity, **watched, **options)
        self._note(outputs=lambda: [] if manifest.uri is None else [_as_uri(manifest.uri)])
        return manifest

    def name_ranges(
        self, bucket: str, prefix: str | Sequence[str] = "", *, user_project: str | None = None, **options: Any
    ) -> list[NameRange]:
        """Divide a bucket's names into ranges, for one listing each. Options: `Client.name_ranges`."""
        options["seed_manifest"] = self.find_manifest(options.get("seed_manifest"), user_project=user_project)
        with self._watch.working() as cancel:
            return self._client(user_project).name_ranges(bucket, prefix, cancel=cancel, **options)

    def join(
        self,
        manifests: Iterable[Manifest | Mapping[str, Any] | str],
        manifest_uri: str,
        *,
        user_project: str | None = None,
        **options: Any,
    ) -> Manifest:
        """Join the listings of all name ranges into one manifest, proven complete. Options: `Client.join`."""
        with self._watch.working() as cancel:
            return self._client(user_project).join(manifests, manifest_uri, cancel=cancel, **options)

    def select(
        self,
        manifest: Manifest | Mapping[str, Any] | str,
        *,
        user_project: str | None = None,
        **options: Any,
    ) -> Manifest | dict[str, Manifest]:
        """Choose objects of a manifest, and divide them into splits. Options: `Client.select`."""
        with self._watch.working() as cancel:
            return self._client(user_project).select(manifest, cancel=cancel, **options)

    def stage(
        self,
        manifest: Manifest | Mapping[str, Any] | str,
        destination: str,
        *,
        identity: RunIdentity | None = None,
        observer: Observer | None = None,
        user_project: str | None = None,
        **options: Any,
    ) -> Receipt:
        """Stage a manifest's objects on local disk. Each file is verified; only missing files are fetched.

        The options are those of :meth:`airflow_dataflux.client.Client.stage`. `identity` is part of the names of
        temporary objects; the default is the identity of the running task.
        """
        client = self._client(user_project)
        with self._running(observer) as watched:
            source = client.open_manifest(manifest)
            self._note(inputs=lambda: [object_uri(source.bucket, each) for each in source.prefixes])
            receipt = client.stage(source, destination, identity=identity or running_identity(), **watched, **options)
        self._note(outputs=lambda: [] if receipt.dry_run else [_as_uri(receipt.destination)])
        return receipt

    def pack(
        self,
        manifest: Manifest | Mapping[str, Any] | str,
        output: str,
        *,
        identity: RunIdentity | None = None,
        observer: Observer | None = None,
        user_project: str | None = None,
        **options: Any,
    ) -> PackResult:
        """Write a manifest's objects into tar shards; only missing shards are written.

        The options are those of :meth:`airflow_dataflux.client.Client.pack`. `identity` is part of the names of
        temporary objects; the default is the identity of the running task.
        """
        client = self._client(user_project)
        with self._running(observer) as watched:
            source = client.open_manifest(manifest)
            self._note(inputs=lambda: [object_uri(source.bucket, each) for each in source.prefixes])
            result = client.pack(source, output, identity=identity or running_identity(), **watched, **options)
        self._note(outputs=lambda: [] if result.dry_run else [result.output])
        return result

    def join_packs(
        self,
        packs: Iterable[PackResult | Mapping[str, Any]],
        *,
        identity: RunIdentity | None = None,
        observer: Observer | None = None,
        user_project: str | None = None,
        **options: Any,
    ) -> PackResult:
        """Write the index of a pack whose shards were written by several tasks. Options: `Client.join_packs`."""
        with self._running(observer) as watched:
            watched["cancel"].raise_if_cancelled()
            result = self._client(user_project).join_packs(
                packs, identity=identity or running_identity(), observer=watched["observer"], **options
            )
        self._note(outputs=lambda: [result.output])
        return result

    def sweep(self, bucket: str, *, user_project: str | None = None, **options: Any) -> SweepResult:
        """Delete composites that outlived their run. Options: `Client.sweep`."""
        with self._watch.working() as cancel:
            cancel.raise_if_cancelled()
            return self._client(user_project).sweep(bucket, **options)

    def prune(self, root: str, pattern: str = "*", **options: Any) -> PruneResult:
        """Remove old staged trees, the oldest first; see `Client.prune` for the options."""
        with self._watch.working() as cancel:
            cancel.raise_if_cancelled()
            return Client().prune(root, pattern, **options)

    def lease(self, destination: str) -> AbstractContextManager[None]:
        """Keep a staged tree from being pruned in a `with` block. The lease ends at the latest with the process."""
        return Client().lease(parameters.required_text(destination, "destination"))

    def lifecycle_rule(self, **options: Any) -> dict[str, Any]:
        """Return the lifecycle rule with which a bucket deletes leftovers itself. Sends no request.

        Options: `composite_prefix` and `older_than`, as for `sweep`.
        """
        from airflow_dataflux.core.staging import lifecycle_rule

        request = parameters.request_from(SweepRequest, {**options, "bucket": "any"})
        return lifecycle_rule(request.composite_prefix, request.older_than)

    def open_manifest(
        self, manifest: Manifest | Mapping[str, Any] | str, *, user_project: str | None = None
    ) -> Manifest:
        """Open a manifest by its reference or URI. Raises ManifestNotFoundError, ManifestChangedError."""
        return self._client(user_project).open_manifest(manifest)

    def find_manifest(
        self, manifest: Manifest | Mapping[str, Any] | str | None, *, user_project: str | None = None
    ) -> Manifest | None:
        """Open an earlier manifest; None if the argument is empty or the manifest does not exist yet."""
        if manifest is None or parameters.is_absent(manifest):
            return None
        return self._client(user_project).find_manifest(manifest)

    def _client(self, user_project: str | None) -> Client:
        return Client(tokens=self.tokens, user_project=user_project)

    @contextmanager
    def _running(self, observer: Observer | None) -> Iterator[dict[str, Any]]:
        """Yield what a run is given: an observer that logs in groups, beside the caller's, and a cancel token."""
        log_groups = LogGroups(self.log.info)

        def observe(event: RunEvent) -> None:
            log_groups.observe(event)
            if observer is not None:
                observer(event)

        with self._watch.working() as cancel, log_groups.closed_at_the_end():
            yield {"observer": observe, "cancel": cancel}

    def _note(
        self,
        *,
        inputs: Callable[[], Iterable[str]] = tuple,
        outputs: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Tell Airflow's hook lineage which URIs were read and written, where anybody reads it."""
        if self._lineage:
            note_lineage(self, inputs=inputs(), outputs=outputs())


def running_identity() -> RunIdentity | None:
    """Return Airflow's identifiers of the running task; None outside one."""
    context = running_context()
    if context is None:
        return None
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
