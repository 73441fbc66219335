"""ComposeDownloadOperator: a manifest in, verified files on local disk out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_dataflux.addresses import bucket_address
from airflow_dataflux.core import parameters
from airflow_dataflux.core.config import DEFAULT_COMPOSITE_PREFIX, DEFAULT_MAX_COMPOSITE_BYTES, StageRequest
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links import BucketLink, ManifestLink, ReceiptLink, ReportLink
from airflow_dataflux.operators.asset_events import announce
from airflow_dataflux.operators.base import DatafluxOperator, ui_observer
from airflow_dataflux.operators.metrics import record_staging
from airflow_dataflux.operators.openlineage import Lineage
from airflow_dataflux.operators.shard_labels import LabelledByShard, shard_label

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.config import OnChangedObject, OnUnreadableObject, OnUnsafeName, Strategy
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.core.staging import Receipt


class ComposeDownloadOperator(LabelledByShard, DatafluxOperator):
    """Stage the objects of a manifest on the worker's disk: each file is verified by size and crc32c and appears whole.

    The task fetches only missing objects. Cloud Storage composes many small objects into temporary objects, which are
    read with one request each. The temporary objects are deleted, also after an error or SIGTERM.

    The task returns a receipt summary, a small dictionary. The receipt itself is beside the files. The files are on the
    disk of the worker that ran this task (`hostname` in the summary). Other workers can read them only if this disk is
    shared. In a mapped task, ``map_index_template="{{ task.shard_label }}"`` labels the instances.

    :param manifest: manifest reference or shard reference (the return value of :class:`FastListOperator`), or the
        URI of a manifest. (templated)
    """

    requests = (StageRequest,)
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> dict[str, Any]:
        """Stage, and return the receipt's summary."""
        with airflow_outcomes():
            destination = parameters.required_text(self.destination, "destination")
            hook = self.open_hook()
            manifest = hook.open_manifest(self.manifest, user_project=self.user_project)
            self.lineage = Lineage.of(manifest)
            self._push_links(
                context, manifest, destination, parameters.optional_text(self.receipt_directory, "receipt_directory")
            )
            label = shard_label(manifest)
            context["shard_label"] = label  # type: ignore[typeddict-unknown-key]  # for map_index_template
            self.log.info("Staging %s of gs://%s to %s", label, manifest.bucket, destination)
            receipt = hook.stage(
                manifest, **self.values(StageRequest), observer=ui_observer(context), user_project=self.user_project
            )
            summary: dict[str, Any] = receipt.summary()
        if not receipt.dry_run:
            self.lineage = Lineage.of(manifest, receipt.destination)
        keys = ("fingerprint", "object_count", "total_bytes", "hostname", "destination")
        announce(
            self,
            context,
            uri=f"file://{destination}",
            extra={"manifest_uri": manifest.uri, **{key: summary[key] for key in keys}},
            changed=_changed(receipt, context),
        )
        record_staging(context, receipt)
        return summary

    def _push_links(
        self, context: Context, manifest: Manifest, destination: str, receipt_directory: str | None
    ) -> None:
        BucketLink().push(context, bucket_address(manifest.bucket, manifest.prefixes[0]))
        if manifest.uri is not None:
            ManifestLink().push_file(context, manifest.uri, "manifest.json")
        ReceiptLink().push_file(context, *receipt_path(manifest, destination, receipt_directory))


def _changed(receipt: Receipt, context: Context) -> bool:
    """Return whether this run changed the files at the destination.

    A second try counts as a change: the first may have placed the files that this one found right on disk, and nobody
    was told.
    """
    return not receipt.dry_run and (
        bool(receipt.downloaded or receipt.linked or receipt.deleted) or context["ti"].try_number > 1
    )


def receipt_path(manifest: Manifest, destination: str, receipt_directory: str | None) -> tuple[str, str]:
    """Return a directory, and where below it the receipt of this manifest or shard will be."""
    from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
    from airflow_dataflux.core.staging.receipt import receipt_name

    shard = manifest.shard_info
    name = receipt_name(f"{shard.index:05}-of-{shard.count:05}" if shard else "")
    return (destination, f"{OWN_DIRECTORY}/{name}") if receipt_directory is None else (receipt_directory, name)
