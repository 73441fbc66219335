"""NameRangesOperator: a bucket in, name ranges to map a listing over out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_dataflux.addresses import bucket_address
from airflow_dataflux.compat import max_map_length
from airflow_dataflux.core import parameters
from airflow_dataflux.core.config import DEFAULT_RANGES, RangesRequest
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links import BucketLink
from airflow_dataflux.operators.base import DatafluxOperator

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context


class NameRangesOperator(DatafluxOperator):
    """Divide a bucket's names into ranges of about equally many objects, for a listing too large for one worker.

    The task returns a list of dictionaries with ``start`` (included) and ``end`` (not included; None for the end of all
    names). Map a :class:`~airflow_dataflux.operators.fast_list.FastListOperator` over it with
    ``.expand(name_range=...)``. The ranges cover all names without gap and overlap;
    :class:`~airflow_dataflux.operators.join_manifests.JoinManifestsOperator` proves that and joins the listings. Uneven
    ranges make the listing slower, but never incomplete.
    """

    requests = (RangesRequest,)
    operator_extra_links = (BucketLink(),)

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str | Sequence[str] = "",
        ranges: int | str = DEFAULT_RANGES,
        seed_manifest: Mapping[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> list[dict[str, str | None]]:
        """Divide, and return the ranges in order."""
        with airflow_outcomes():
            count = parameters.positive_count(self.ranges, "ranges")
            if count is not None and count > max_map_length():
                raise InvalidRequestError(
                    f"ranges={count} is more than the {max_map_length()} instances that this deployment allows for a "
                    "mapped task: ask for fewer, or raise [core] max_map_length."
                )
            hook = self.open_hook()
            bucket = parameters.required_text(self.bucket, "bucket")
            BucketLink().push(context, bucket_address(bucket, next(iter(parameters.prefixes(self.prefix)), "")))
            found = hook.name_ranges(**self.values(RangesRequest), user_project=self.user_project)
        for number, names in enumerate(found, start=1):
            self.log.info("Range %d of %d: %s", number, len(found), names)
        return [{"start": names.start, "end": names.end} for names in found]
