"""JoinPacksOperator: what the tasks of a mapped pack returned in, one index out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.operators.base import DatafluxOperator
from airflow_dataflux.operators.compose_pack import announce_pack

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context


class JoinPacksOperator(DatafluxOperator):
    """Write the index of a pack whose shards several tasks wrote.

    The task proves that all tasks wrote the same pack, that no task is missing, and that every shard exists. It copies
    no shard. It returns the same dictionary as a single task that packs everything.

    :param packs: return values of the tasks: the `output` of the mapped pack. (templated)
    """

    def __init__(self, *, packs: Iterable[Mapping[str, Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> dict[str, Any]:
        """Prove, write the index, and return what the whole pack is."""
        with airflow_outcomes():
            result = self.open_hook().join_packs(self.packs, user_project=self.user_project)
        announce_pack(self, context, result, changed=bool(result.packed_shards) or context["ti"].try_number > 1)
        self.log.info(
            "%s: %d samples in %d shards, %d of them written in this run",
            *(result.output, result.sample_count, result.shard_count, result.packed_shards),
        )
        return result.summary()
