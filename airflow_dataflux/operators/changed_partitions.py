"""ChangedPartitionsOperator: two manifests in, the partitions that differ out, to map over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_dataflux.addresses import bucket_address
from airflow_dataflux.compat import add_partitions, is_asset, max_map_length
from airflow_dataflux.core import parameters
from airflow_dataflux.core.config import DEFAULT_PARTITION
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links import BucketLink
from airflow_dataflux.operators.asset_events import announce
from airflow_dataflux.operators.base import DatafluxOperator
from airflow_dataflux.operators.openlineage import Lineage

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.manifest import Manifest


class ChangedPartitionsOperator(DatafluxOperator):
    """Return the partitions of a bucket that changed between two manifests, for ``.expand()``.

    Each partition is a dictionary with ``partition``, ``prefix``, ``change`` ("added", "changed" or "removed"),
    ``object_count``, ``total_bytes`` and ``fingerprint``. If nothing changed, the list is empty, and Airflow skips the
    mapped tasks.

    From Airflow 3.3 on, each asset among the outlets receives an event for exactly each of these partitions, which runs
    only DAGs with a ``PartitionedAssetTimetable``. Before that, it receives one event. An ``AssetAlias`` receives one
    event in any version. The event's ``extra`` names all partitions. Without a change there is no event.

    :param manifest: reference or URI of the current manifest. (templated)
    :param previous: reference or URI of the earlier manifest. If it does not exist yet, or is None, every partition
        counts as added. (templated)
    :param partition: regular expression for object names. Its group ``partition``, or its only group, is the partition;
        the partition's prefix ends where the match ends. (templated)
    """

    operator_extra_links = (BucketLink(),)

    def __init__(
        self,
        *,
        manifest: Mapping[str, Any] | str,
        previous: Mapping[str, Any] | str | None = None,
        partition: str = DEFAULT_PARTITION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Compare, tell the outlets, and return the changes."""
        with airflow_outcomes():
            from airflow_dataflux.core.manifest.partitions import changed_partitions

            hook = self.open_hook()
            expression = parameters.optional_text(self.partition, "partition") or DEFAULT_PARTITION
            manifest = hook.open_manifest(self.manifest, user_project=self.user_project)
            previous = hook.find_manifest(self.previous, user_project=self.user_project)
            self.lineage = Lineage.of(manifest)
            BucketLink().push(context, bucket_address(manifest.bucket, manifest.prefixes[0]))
            found = changed_partitions(manifest, previous, expression)
            most = max_map_length()
            if len(found.changes) > most:
                raise InvalidRequestError(
                    f"{len(found.changes)} partitions changed, which is more than the {most} instances that this "
                    "deployment allows for a mapped task. Raise [core] max_map_length, or choose larger partitions, "
                    "such as months."
                )
        if found.without_partition:
            self.log.warning(
                "%d objects are in no partition: %r is not found in their names", found.without_partition, expression
            )
        for each in found.changes:
            self.log.info("%s: %s, %d objects", each.prefix, each.change, each.object_count)
        with airflow_outcomes():
            self._announce(context, manifest, [each.partition for each in found.changes])
        return [each.as_dict() for each in found.changes]

    def _announce(self, context: Context, manifest: Manifest, partitions: list[str]) -> None:
        announce(
            self,
            context,
            uri=f"gs://{manifest.bucket}/{manifest.prefixes[0]}",
            extra={"fingerprint": manifest.fingerprint, "manifest_uri": manifest.uri, "partitions": partitions},
            changed=bool(partitions),
        )
        for outlet in filter(is_asset, self.outlets):
            try:
                add_partitions(context["outlet_events"][outlet], partitions)
            except ValueError as error:
                raise InvalidRequestError(
                    f"Airflow does not take a partition as the key of an event: {error} Let `partition` find something "
                    "shorter, or leave out the outlets."
                ) from error
