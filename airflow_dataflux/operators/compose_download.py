"""ComposeDownloadOperator: a manifest in, verified files on local disk out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_dataflux.core.config import DEFAULT_COMPOSITE_PREFIX, DEFAULT_MAX_COMPOSITE_BYTES
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links.storage import (
    BucketLink,
    ManifestLink,
    ReceiptLink,
    ReportLink,
    bucket_address,
)
from airflow_dataflux.operators.dataflux import DatafluxOperator, log_group
from airflow_dataflux.operators.events import announce
from airflow_dataflux.operators.lineage import Lineage
from airflow_dataflux.operators.metrics import record_staging
from airflow_dataflux.operators.reports import report_pusher

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.config import OnChangedObject, Strategy
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.core.staging import Receipt


class ComposeDownloadOperator(DatafluxOperator):
    """Put the objects of a manifest on the worker's disk, each verified by size and crc32c and published whole.

    Fetches only what is not there yet. Many small objects are composed into temporary ones by Cloud Storage and read
    with one request; the temporary objects are deleted in every way out.

    Returns a receipt summary, a small dictionary; the receipt itself lies beside the files. The files are on the disk
    of the worker that ran this task (`hostname` in the summary), and nowhere else unless that disk is shared.
    Mapped over shards, ``map_index_template="{{ shard_label }}"`` names the instances.

    :param manifest: manifest reference or shard reference (the return value of :class:`FastListOperator`), or the
        URI of a manifest. (templated)
    :param destination: absolute local directory. (templated)
    :param strategy: "auto" chooses for each group of objects, "compose" and "direct" force one way where it is
        possible. (templated)
    :param max_composite_bytes: no temporary object is larger. (templated)
    :param composite_prefix: where temporary objects are named in the bucket of the data; ends in ``/``. (templated)
    :param strip_prefix: removed from the front of each object's name to make its path. (templated)
    :param delete_extraneous: remove files that an earlier staging put there and this manifest lacks. (templated)
    :param on_changed_object: an object that was overwritten or deleted since the listing: "fail" names it, "skip"
        leaves it out and counts it. (templated)
    :param max_in_flight: requests in flight, over all workers; None chooses. (templated)
    :param workers: worker processes; None uses the usable cores. (templated)
    :param dry_run: plan and estimate, move nothing. (templated)
    :param report: write a page about this run beside the receipt and link it. (templated)
    """

    template_fields: Sequence[str] = (
        "manifest",
        "destination",
        "strategy",
        "max_composite_bytes",
        "composite_prefix",
        "strip_prefix",
        "delete_extraneous",
        "on_changed_object",
        "max_in_flight",
        "workers",
        "is_dry_run",
        "report",
        *DatafluxOperator.template_fields,
    )
    template_fields_renderers = {  # noqa: RUF012 - Airflow's own declaration
        "manifest": "json",
        **DatafluxOperator.template_fields_renderers,
    }
    operator_extra_links = (BucketLink(), ManifestLink(), ReceiptLink(), ReportLink())

    def __init__(
        self,
        *,
        manifest: Mapping[str, Any] | str,
        destination: str,
        strategy: Strategy = "auto",
        max_composite_bytes: int | str = DEFAULT_MAX_COMPOSITE_BYTES,
        composite_prefix: str = DEFAULT_COMPOSITE_PREFIX,
        strip_prefix: str = "",
        delete_extraneous: bool | str = False,
        on_changed_object: OnChangedObject = "fail",
        max_in_flight: int | str | None = None,
        workers: int | str | None = None,
        dry_run: bool | str = False,
        report: bool | str = True,
        user_project: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            user_project=user_project, gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain, **kwargs
        )
        self.manifest = manifest
        self.destination = destination
        self.strategy = strategy
        self.max_composite_bytes = max_composite_bytes
        self.composite_prefix = composite_prefix
        self.strip_prefix = strip_prefix
        self.delete_extraneous = delete_extraneous
        self.on_changed_object = on_changed_object
        self.max_in_flight = max_in_flight
        self.workers = workers
        self.is_dry_run = dry_run  # `dry_run` is a method of every operator
        self.report = report

    def execute(self, context: Context) -> dict[str, Any]:
        """Stage, and return the receipt's summary."""
        with airflow_outcomes():
            hook = self.open_hook()
            manifest = hook.open_manifest(self.manifest, user_project=self.user_project)
            self.lineage = Lineage.of(manifest)
            self._push_links(context, manifest)
            label = shard_label(manifest)
            context["shard_label"] = label  # type: ignore[typeddict-unknown-key]  # for map_index_template
            self.log.info("Staging %s of gs://%s to %s", label, manifest.bucket, self.destination)
            receipt = hook.stage(
                manifest,
                self.destination,
                strategy=self.strategy,
                max_composite_bytes=self.max_composite_bytes,
                composite_prefix=self.composite_prefix,
                strip_prefix=self.strip_prefix,
                delete_extraneous=self.delete_extraneous,
                on_changed_object=self.on_changed_object,
                max_in_flight=self.max_in_flight,
                workers=self.workers,
                dry_run=self.is_dry_run,
                report=self.report,
                on_report=report_pusher(context),
                user_project=self.user_project,
            )
            summary: dict[str, Any] = receipt.summary()
        if not receipt.dry_run:
            self.lineage = Lineage.of(manifest, receipt.destination)
        keys = ("fingerprint", "object_count", "total_bytes", "hostname", "destination")
        announce(
            self,
            context,
            uri=f"file://{self.destination}",
            extra={"manifest_uri": manifest.uri, **{key: summary[key] for key in keys}},
            changed=_changed(receipt, context),
        )
        record_staging(context, receipt)
        with log_group(self.log.info, "summary"):
            done = ("downloaded", "reused", "skipped", "deleted", "composites")
            told = ", ".join(f"{summary[name]:,} {name}" for name in done)
            self.log.info("%s in %s: %s in %.1f s", label, summary["destination"], told, summary["seconds"])
        return summary

    def _push_links(self, context: Context, manifest: Manifest) -> None:
        BucketLink().push(context, bucket_address(manifest.bucket, manifest.prefixes[0]))
        if manifest.uri is not None:
            ManifestLink().push_file(context, manifest.uri, "manifest.json")
        ReceiptLink().push_file(context, self.destination, receipt_path(manifest))


def _changed(receipt: Receipt, context: Context) -> bool:
    """Return whether the files at the destination are others than before this run.

    A second try counts as a change: the first may have placed the files that this one found right on disk, and nobody
    was told.
    """
    return not receipt.dry_run and (bool(receipt.downloaded or receipt.deleted) or context["ti"].try_number > 1)


def receipt_path(manifest: Manifest) -> str:
    """Return where the receipt of this manifest or shard will be, relative to the destination."""
    from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
    from airflow_dataflux.core.staging.receipt import receipt_name

    shard = manifest.shard_info
    scope = f"{shard.index:05}-of-{shard.count:05}" if shard else ""
    return f"{OWN_DIRECTORY}/{receipt_name(scope)}"


def shard_label(manifest: Manifest) -> str:
    """Return a few words for a person: which shard of how many, how many objects, how much data."""
    shard = manifest.shard_info
    part = f"shard {shard.index + 1} of {shard.count}: " if shard else ""
    return f"{part}{len(manifest):,} objects, {_readable(manifest.total_bytes)}"


def _readable(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
