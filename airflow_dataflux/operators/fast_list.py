"""FastListOperator: a bucket in, a manifest reference out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

from airflow_dataflux.compat import AirflowFailException, AirflowSkipException
from airflow_dataflux.core.errors import InvalidRequestError, ManifestError
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links.storage import BucketLink, ManifestLink, ReportLink, bucket_address
from airflow_dataflux.operators.choices import OnEmpty, OnUnchanged, checked_choice
from airflow_dataflux.operators.dataflux import DatafluxOperator, log_group
from airflow_dataflux.operators.division import Division, checked_division, returned
from airflow_dataflux.operators.events import announce_manifest
from airflow_dataflux.operators.lineage import Lineage
from airflow_dataflux.operators.metrics import record_listing
from airflow_dataflux.operators.reports import report_pusher

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.hooks.dataflux import DatafluxHook


class FastListOperator(DatafluxOperator):
    """List a bucket into a manifest: every object once, sorted by name, pinned by generation.

    Returns a manifest reference, a small dictionary that :class:`ComposeDownloadOperator` takes as its `manifest`.
    With `shards` or `shard_bytes` it returns a list of shard references to ``.expand()`` over, and leaves the whole
    reference under the XCom key ``manifest``; an empty listing returns an empty list, and Airflow skips what is mapped
    over it.

    :param bucket: bare name of the bucket. (templated)
    :param prefix: prefix of the object names, or a list of prefixes; overlapping ones are listed once. (templated)
    :param match_glob: Cloud Storage glob, evaluated by the server. (templated)
    :param storage_classes: storage classes to keep, a list or one text with commas; None keeps all. (templated)
    :param updated_after: only objects changed at this time or later: a datetime or ISO 8601. (templated)
    :param updated_before: only objects changed before this time. (templated)
    :param min_bytes: smallest size to keep, inclusive. (templated)
    :param max_bytes: largest size to keep, inclusive. (templated)
    :param include_placeholders: keep zero-byte objects whose name ends in ``/``. (templated)
    :param manifest_uri: directory of the manifest, ``gs://``, ``file://`` or any fsspec URI; it is replaced if it
        exists. None keeps the listing in XCom, for a few thousand objects at most. (templated)
    :param seed_manifest: reference or URI of an earlier manifest of the same data, which makes the listing faster; one
        that does not exist (yet) is no error. (templated)
    :param shards: return this many shard references, or fewer: a shard is never empty. (templated)
    :param shard_bytes: return shard references of about this many bytes each. (templated)
    :param on_unchanged: "skip" skips this task where the listing equals `seed_manifest`, "continue" does not.
        (templated)
    :param on_empty: what an empty listing means: "continue" returns it, "skip" skips this task, "fail" fails it without
        a retry. (templated)
    :param name_range: list only the names from ``start`` (inclusive) to ``end`` (exclusive): one of the dictionaries
        that :class:`~airflow_dataflux.operators.name_ranges.NameRangesOperator` returns. (templated)
    :param workers: worker processes; None uses the usable cores. (templated)
    :param streams: list requests in flight, over all workers. (templated)
    :param report: write a page about this run, ``report.html``, beside the manifest and link it; without
        `manifest_uri` there is none. (templated)
    """

    template_fields: Sequence[str] = (
        "bucket",
        "prefix",
        "match_glob",
        "storage_classes",
        "updated_after",
        "updated_before",
        "min_bytes",
        "max_bytes",
        "include_placeholders",
        "manifest_uri",
        "seed_manifest",
        "shards",
        "shard_bytes",
        "on_unchanged",
        "on_empty",
        "name_range",
        "workers",
        "streams",
        "report",
        *DatafluxOperator.template_fields,
    )
    template_fields_renderers = {  # noqa: RUF012 - Airflow's own declaration
        "prefix": "json",
        "seed_manifest": "json",
        "storage_classes": "json",
        "name_range": "json",
        **DatafluxOperator.template_fields_renderers,
    }
    operator_extra_links = (BucketLink(), ManifestLink(), ReportLink())

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str | Sequence[str] = "",
        match_glob: str | None = None,
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
        user_project: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            user_project=user_project, gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain, **kwargs
        )
        self.bucket = bucket
        self.prefix = prefix
        self.match_glob = match_glob
        self.storage_classes = storage_classes
        self.updated_after = updated_after
        self.updated_before = updated_before
        self.min_bytes = min_bytes
        self.max_bytes = max_bytes
        self.include_placeholders = include_placeholders
        self.manifest_uri = manifest_uri
        self.seed_manifest = seed_manifest
        self.shards = shards
        self.shard_bytes = shard_bytes
        self.on_unchanged = on_unchanged
        self.on_empty = on_empty
        self.name_range = name_range
        self.workers = workers
        self.streams = streams
        self.report = report

    def execute(self, context: Context) -> dict[str, Any] | list[dict[str, Any]]:
        """List, and return the reference or the shard references."""
        with airflow_outcomes():
            division = checked_division(self.shards, self.shard_bytes)
            on_empty = checked_choice("on_empty", self.on_empty, get_args(OnEmpty))
            hook = self.open_hook()
            self._push_links(context)
            # Read before the listing, which may replace the very manifest that seeds it.
            seed = self._seed(hook)
            before = self._earlier_fingerprint(hook, seed, context)
            self.lineage = Lineage(bucket=self.bucket, prefixes=self._prefixes())
            manifest = self._list(hook, seed, context)
            self.lineage = Lineage.of(manifest, manifest.uri)
            changed = manifest.fingerprint != before
            if not len(manifest) and on_empty == "skip":
                raise AirflowSkipException(f"There is nothing in gs://{self.bucket} that this listing asks for.")
            if not len(manifest) and on_empty == "fail":
                raise AirflowFailException(
                    f"There is nothing in gs://{self.bucket} that this listing asks for (prefix {self.prefix!r}), and "
                    'on_empty is "fail". Check prefix and filters, or set on_empty="continue".'
                )
            if not changed and self.on_unchanged == "skip":
                raise AirflowSkipException(f"Nothing changed since the earlier manifest ({before}).")
            return self._publish(context, manifest, division, changed=changed)

    def _list(self, hook: DatafluxHook, seed: Manifest | None, context: Context) -> Manifest:
        return hook.fast_list(
            self.bucket,
            self.prefix,
            match_glob=self.match_glob,
            storage_classes=self.storage_classes,
            updated_after=self.updated_after,
            updated_before=self.updated_before,
            min_bytes=self.min_bytes,
            max_bytes=self.max_bytes,
            include_placeholders=self.include_placeholders,
            manifest_uri=self.manifest_uri,
            seed_manifest=seed,
            name_range=self.name_range,
            workers=self.workers,
            streams=self.streams,
            report=self.report,
            on_report=report_pusher(context),
            user_project=self.user_project,
        )

    def _prefixes(self) -> tuple[str, ...]:
        from airflow_dataflux.hooks import parameters

        return parameters.prefixes(self.prefix)

    def _seed(self, hook: DatafluxHook) -> Manifest | None:
        if (
            checked_choice("on_unchanged", self.on_unchanged, get_args(OnUnchanged)) == "skip"
            and self.seed_manifest is None
        ):
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
        from airflow_dataflux.hooks import parameters

        BucketLink().push(context, bucket_address(self.bucket, self._prefixes()[0]))
        uri = parameters.optional_text(self.manifest_uri, "manifest_uri")
        if uri is not None:
            ManifestLink().push_file(context, uri, "manifest.json")

    def _publish(
        self, context: Context, manifest: Manifest, division: Division, *, changed: bool
    ) -> dict[str, Any] | list[dict[str, Any]]:
        announce_manifest(self, context, manifest, changed=changed)
        record_listing(context, manifest.reference())
        where = manifest.uri or "XCom"
        change = "changed" if changed else "unchanged"
        with log_group(self.log.info, "summary"):
            self.log.info(
                "%d objects, %d bytes in the manifest in %s (%s)", len(manifest), manifest.total_bytes, where, change
            )
        return returned(context, manifest, division)


def _made_by_an_earlier_try(manifest: Manifest, context: Context) -> bool:
    """Return whether an earlier try of this very run listed `manifest`, and failed before it could tell anyone.

    (1) A try publishes the manifest that is the seed, too; (2) its worker is lost; (3) the next try finds the bucket
    unchanged since (1). Nobody was told of the change, so it still counts as one.
    """
    began = context["dag_run"].start_date
    return context["ti"].try_number > 1 and began is not None and manifest.listed_at >= began
