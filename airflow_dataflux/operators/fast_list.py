"""FastListOperator: a bucket in, a manifest reference out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_dataflux.addresses import bucket_address
from airflow_dataflux.compat import task_states
from airflow_dataflux.core import parameters
from airflow_dataflux.core.config import ListRequest
from airflow_dataflux.core.errors import InvalidRequestError, ManifestError, SkippedError
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links import BucketLink, ManifestLink, ReportLink
from airflow_dataflux.operators.asset_events import announce_manifest
from airflow_dataflux.operators.base import DatafluxOperator, ui_observer
from airflow_dataflux.operators.metrics import record_listing
from airflow_dataflux.operators.openlineage import Lineage
from airflow_dataflux.operators.shard_references import ShardRequest, as_return_value

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.config import OnEmpty, OnUnchanged
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.hooks.dataflux import DatafluxHook


class FastListOperator(DatafluxOperator):
    """List a bucket into a manifest: every object once, sorted by name, pinned by generation.

    The task returns a manifest reference, a small dictionary for the parameter `manifest` of
    :class:`ComposeDownloadOperator`. With `shards` or `shard_bytes` it returns a list of shard references for
    ``.expand()``, and pushes the reference of the whole manifest under the XCom key ``manifest``. An empty listing then
    returns an empty list, and Airflow skips the mapped tasks.
    """

    requests = (ListRequest, ShardRequest)
    operator_extra_links = (BucketLink(), ManifestLink(), ReportLink())

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str | Sequence[str] = "",
        match_glob: str | None = None,
        exclude_glob: str | Sequence[str] | None = None,
        storage_classes: str | Sequence[str] | None = None,
        updated_after: datetime | str | None = None,
        updated_before: datetime | str | None = None,
        min_bytes: int | str | None = None,
        max_bytes: int | str | None = None,
        include_placeholders: bool | str = False,
        manifest_uri: str | None = None,
        seed_manifest: Mapping[str, Any] | str | None = None,
        shards: int | str | None = None,
        shard_bytes: int | str | None = None,
        on_unchanged: OnUnchanged = "continue",
        on_empty: OnEmpty = "continue",
        name_range: Mapping[str, str | None] | str | None = None,
        workers: int | str | None = None,
        streams: int | str | None = None,
        report: bool | str = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> dict[str, Any] | list[dict[str, Any]]:
        """List, and return the reference or the shard references."""
        with airflow_outcomes():
            shards = parameters.request_from(ShardRequest, self.values(ShardRequest))
            hook = self.open_hook()
            self._push_links(context)
            # Read before the listing, which may replace the very manifest that seeds it.
            seed = self._seed(hook)
            before = self._earlier_fingerprint(hook, seed, context)
            self.lineage = Lineage(bucket=self.bucket, prefixes=self._prefixes())
            try:
                manifest = self._list(hook, seed, context)
            except SkippedError as skipped:
                found = {"object_count": skipped.object_count, "total_bytes": skipped.total_bytes}
                self.lineage = replace(self.lineage, **found)
                raise
            self.lineage = Lineage.of(manifest, manifest.uri)
            return self._publish(context, manifest, shards, changed=manifest.fingerprint != before)

    def _list(self, hook: DatafluxHook, seed: Manifest | None, context: Context) -> Manifest:
        values = {**self.values(ListRequest), "seed_manifest": seed}
        if seed is None or not self._has_arrived(seed, context):
            values["on_unchanged"] = "continue"
        return hook.fast_list(**values, observer=ui_observer(context), user_project=self.user_project)

    def _has_arrived(self, seed: Manifest, context: Context) -> bool:
        """Return whether what comes after this task has finished with `seed`, so that no change means nothing to do.

        (1) A run publishes `seed`; (2) its staging fails; (3) the next run finds the bucket unchanged since (1). A skip
        would skip its staging, too, and so every night until an object changes.
        """
        if parameters.skips_unchanged(self.on_unchanged) and not _made_by_an_earlier_try(seed, context):
            unfinished = _unfinished(self, seed, context)
            if not unfinished:
                return True
            self.log.info("This task continues even if nothing changed, because %s", unfinished)
        return False

    def _prefixes(self) -> tuple[str, ...]:
        return parameters.prefixes(self.prefix)

    def _seed(self, hook: DatafluxHook) -> Manifest | None:
        # One that renders to nothing is one that does not exist yet.
        if parameters.skips_unchanged(self.on_unchanged) and self.seed_manifest is None:
            raise InvalidRequestError('on_unchanged="skip" compares with an earlier listing: give it as seed_manifest.')
        return hook.find_manifest(self.seed_manifest, user_project=self.user_project)

    def _earlier_fingerprint(self, hook: DatafluxHook, seed: Manifest | None, context: Context) -> str | None:
        earlier = seed if self.seed_manifest is not None else self._replaced_manifest(hook)
        if earlier is None or _made_by_an_earlier_try(earlier, context):
            return None
        return earlier.fingerprint

    def _replaced_manifest(self, hook: DatafluxHook) -> Manifest | None:
        """Return what a listing without a seed is compared with, which only asset events ask for."""
        if not self.outlets:
            return None
        try:
            return hook.find_manifest(self.manifest_uri, user_project=self.user_project)
        except ManifestError as error:  # it is about to be replaced, so what is wrong with it is of no interest
            self.log.info("There is no earlier manifest to compare with: %s", error)
            return None

    def _push_links(self, context: Context) -> None:
        bucket = parameters.required_text(self.bucket, "bucket")
        BucketLink().push(context, bucket_address(bucket, next(iter(self._prefixes()), "")))
        uri = parameters.optional_text(self.manifest_uri, "manifest_uri")
        if uri is not None:
            ManifestLink().push_file(context, uri, "manifest.json")

    def _publish(
        self, context: Context, manifest: Manifest, shards: ShardRequest, *, changed: bool
    ) -> dict[str, Any] | list[dict[str, Any]]:
        announce_manifest(self, context, manifest, changed=changed)
        record_listing(context, manifest.reference())
        self.log.info("The data %s since the earlier listing", "changed" if changed else "did not change")
        return as_return_value(context, manifest, shards)


def _unfinished(operator: FastListOperator, seed: Manifest, context: Context) -> str:
    """Say what is not known to have finished with `seed` after this task; nothing if all of it has."""
    maker = seed.request.get("identity")
    if not isinstance(maker, dict) or maker.get("dag") != operator.dag_id:
        from airflow_dataflux.core.manifest.location import manifest_location

        own = parameters.optional_text(operator.manifest_uri, "manifest_uri")
        if own is None or seed.uri != manifest_location(own).uri:
            return ""  # it is no manifest of this task, so what follows this task never had it
        return "another DAG, a script or an earlier version made the earlier manifest."
    run, after = str(maker.get("run")), operator.get_flat_relative_ids(upstream=False)
    states = task_states(context, run, after)
    if states is None:
        return f"the states of the tasks of run {run}, which made the earlier manifest, cannot be read."
    ends = {name: states.get(name) or ["no state"] for name in sorted(after)}
    unfinished = {name: "/".join(sorted({str(each) for each in found} - _FINISHED)) for name, found in ends.items()}
    told = ", ".join(f"{name} ({states})" for name, states in unfinished.items() if states)
    return f"the run {run}, which made the earlier manifest, has not finished with it: {told}." if told else ""


_FINISHED = frozenset({"success", "skipped"})


def _made_by_an_earlier_try(manifest: Manifest, context: Context) -> bool:
    """Return whether an earlier try of this very run listed `manifest`, and failed before it could tell anyone.

    (1) A try publishes the manifest that is the seed, too; (2) its worker is lost; (3) the next try finds the bucket
    unchanged since (1). Nobody was told of the change, so it still counts as one.
    """
    began = context["dag_run"].start_date
    return context["ti"].try_number > 1 and began is not None and manifest.listed_at >= began
