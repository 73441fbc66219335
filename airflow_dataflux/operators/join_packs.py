"""JoinPacksOperator: what the tasks of a mapped pack returned in, one index out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_dataflux.addresses import bucket_address
from airflow_dataflux.core import parameters
from airflow_dataflux.core.config import JoinPacksRequest
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links import BucketLink, ReportLink
from airflow_dataflux.operators.base import DatafluxOperator, ui_observer
from airflow_dataflux.operators.compose_pack import announce_pack
from airflow_dataflux.operators.metrics import record_join
from airflow_dataflux.operators.openlineage import Lineage

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context


class JoinPacksOperator(DatafluxOperator):
    """Write the index of a pack whose shards several tasks wrote.

    The task proves that all tasks wrote the same pack, that no task is missing, and that every shard exists. It copies
    no shard. It returns the same dictionary as a single task that packs everything, with the requests and the cost of
    all tasks. Its report is of the whole pack.

    :param packs: return values of the tasks: the `output` of the mapped pack. (templated)
    """

    requests = (JoinPacksRequest,)
    operator_extra_links = (BucketLink(), ReportLink())

    def __init__(self, *, packs: Iterable[Mapping[str, Any]], report: bool | str = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> dict[str, Any]:
        """Prove, write the index, and return what the whole pack is."""
        from airflow_dataflux.core.packing import PackResult

        started = time.monotonic()
        with airflow_outcomes():
            parts = [PackResult.from_summary(each) for each in parameters.summaries(self.packs, "packs")]
            source = parts[0].source
            if source is not None:
                self.lineage = Lineage.of_pack(source)
                BucketLink().push(context, bucket_address(source.bucket, source.prefixes[0]))
            result = self.open_hook().join_packs(
                parts,
                **self.values(JoinPacksRequest),
                observer=ui_observer(context),
                user_project=self.user_project,
            )
        if source is not None:
            self.lineage = Lineage.of_pack(source, result)
        record_join(context, result, parts=len(parts), seconds=time.monotonic() - started)
        announce_pack(self, context, result, changed=bool(result.packed_shards) or context["ti"].try_number > 1)
        self.log.info(
            "%s: %d samples in %d shards, %d of them written in this run",
            *(result.output, result.sample_count, result.shard_count, result.packed_shards),
        )
        return result.summary()
