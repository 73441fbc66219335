"""ComposePackOperator: a manifest in, tar shards for a training loop out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_dataflux.addresses import bucket_address
from airflow_dataflux.core.config import (
    DEFAULT_COMPOSITE_PREFIX,
    DEFAULT_MAX_COMPOSITE_BYTES,
    DEFAULT_NAME_TEMPLATE,
    DEFAULT_PACK_SHARD_BYTES,
    PackRequest,
)
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links import BucketLink, ManifestLink, ReportLink
from airflow_dataflux.operators.asset_events import announce
from airflow_dataflux.operators.base import DatafluxOperator, ui_observer
from airflow_dataflux.operators.metrics import record_packing
from airflow_dataflux.operators.openlineage import Lineage
from airflow_dataflux.operators.shard_labels import LabelledByShard, shard_label

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.config import OnChangedObject, Strategy
    from airflow_dataflux.core.packing import PackResult


class ComposePackOperator(LabelledByShard, DatafluxOperator):
    """Turn the objects of a manifest into tar shards that ``webdataset`` and ``tarfile`` read.

    No sample is divided. Samples keep their order, or are shuffled by a seed. Each object is verified by crc32c and
    written without a copy on local disk. The same manifest and parameters give the same bytes. A shard that is already
    right is not written again, so the next try of a killed task writes only the missing shards. ``index.json``, the
    index for WebDataset's indexed reader, is written last, after ``members.parquet``.

    If the task is mapped over the shards of a manifest, each instance writes its part of one pack, and
    :class:`JoinPacksOperator` writes the index. ``map_index_template="{{ task.shard_label }}"`` labels the instances.
    The task returns a small dictionary with the place of the pack, its content, the written shards and the cost.

    :param manifest: manifest reference or shard reference, or the URI of a manifest. (templated)
    """

    requests = (PackRequest,)
    operator_extra_links = (BucketLink(), ManifestLink(), ReportLink())

    def __init__(
        self,
        *,
        manifest: Mapping[str, Any] | str,
        output: str,
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> dict[str, Any]:
        """Pack, and return what came of it."""
        with airflow_outcomes():
            hook = self.open_hook()
            manifest = hook.open_manifest(self.manifest, user_project=self.user_project)
            self.lineage = Lineage.of(manifest)
            BucketLink().push(context, bucket_address(manifest.bucket, manifest.prefixes[0]))
            if manifest.uri is not None:
                ManifestLink().push_file(context, manifest.uri, "manifest.json")
            label = shard_label(manifest)
            context["shard_label"] = label  # type: ignore[typeddict-unknown-key]  # for map_index_template
            self.log.info("Packing %s of gs://%s to %s", label, manifest.bucket, self.output_uri)
            result = hook.pack(
                manifest, **self.values(PackRequest), observer=ui_observer(context), user_project=self.user_project
            )
        if not result.dry_run:
            self.lineage = Lineage.of(manifest, result.output)
            announce_pack(self, context, result, changed=bool(result.packed_shards) or context["ti"].try_number > 1)
        record_packing(context, result)
        return result.summary()


def announce_pack(operator: DatafluxOperator, context: Context, result: PackResult, *, changed: bool) -> None:
    """Tell the DAGs that wait for a pack; a part that is not joined yet is none."""
    announce(
        operator,
        context,
        uri=result.output.rstrip("/"),
        extra={
            "fingerprint": result.fingerprint,
            "index": result.index,
            "shard_count": result.shard_count,
            "sample_count": result.sample_count,
            "total_bytes": result.total_bytes,
        },
        changed=changed and not result.dry_run and result.index is not None,
    )
