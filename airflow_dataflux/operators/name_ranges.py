"""NameRangesOperator: a bucket in, name ranges to map a listing over out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_dataflux.compat import max_map_length
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links.storage import BucketLink, bucket_address
from airflow_dataflux.operators.dataflux import DatafluxOperator

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context


class NameRangesOperator(DatafluxOperator):
    """Divide a bucket's names into ranges of about equally many objects, for a listing too large for one worker.

    Returns a list of dictionaries with ``start`` (inclusive) and ``end`` (exclusive, None for the end of all names) to
    ``.expand(name_range=...)`` a :class:`~airflow_dataflux.operators.fast_list.FastListOperator` over. The ranges tile
    all names; :class:`~airflow_dataflux.operators.join_manifests.JoinManifestsOperator` proves that and joins the
    listings. How even they are decides how well the work is shared, never whether the listing is complete.

    :param bucket: bare name of the bucket. (templated)
    :param prefix: prefix of the object names, or a list of prefixes: the same as for the listings. (templated)
    :param ranges: how many ranges; there are fewer where names cannot be divided further. (templated)
    :param seed_manifest: reference or URI of an earlier manifest of the same data, whose names divide best; without
        one, or as long as there is none yet, about eight pages for each range are listed as a sample. (templated)
    """

    template_fields: Sequence[str] = ("bucket", "prefix", "ranges", "seed_manifest", *DatafluxOperator.template_fields)
    template_fields_renderers = {  # noqa: RUF012 - Airflow's own declaration
        "prefix": "json",
        "seed_manifest": "json",
        **DatafluxOperator.template_fields_renderers,
    }
    operator_extra_links = (BucketLink(),)

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str | Sequence[str] = "",
        ranges: int | str = 8,
        seed_manifest: Mapping[str, Any] | str | None = None,
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
        self.ranges = ranges
        self.seed_manifest = seed_manifest

    def execute(self, context: Context) -> list[dict[str, str | None]]:
        """Divide, and return the ranges in order."""
        with airflow_outcomes():
            from airflow_dataflux.hooks import parameters

            count = parameters.positive_count(self.ranges, "ranges")
            if count is not None and count > max_map_length():
                raise InvalidRequestError(
                    f"ranges={count} is more than this deployment maps one task over ({max_map_length()}): ask for "
                    "fewer, or raise [core] max_map_length."
                )
            hook = self.open_hook()
            BucketLink().push(context, bucket_address(self.bucket, parameters.prefixes(self.prefix)[0]))
            found = hook.name_ranges(
                self.bucket,
                self.prefix,
                ranges=self.ranges,
                seed_manifest=self.seed_manifest,
                user_project=self.user_project,
            )
        for number, names in enumerate(found, start=1):
            self.log.info("Range %d of %d: %s", number, len(found), names)
        return [{"start": names.start, "end": names.end} for names in found]
