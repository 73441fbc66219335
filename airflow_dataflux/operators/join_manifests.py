"""JoinManifestsOperator: the manifests of all name ranges in, one manifest out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_dataflux.addresses import bucket_address
from airflow_dataflux.core import parameters
from airflow_dataflux.core.config import JoinRequest
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links import BucketLink, ManifestLink
from airflow_dataflux.operators.asset_events import announce_manifest
from airflow_dataflux.operators.base import DatafluxOperator
from airflow_dataflux.operators.openlineage import Lineage
from airflow_dataflux.operators.shard_references import ShardRequest, as_return_value

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.config import OnEmpty


class JoinManifestsOperator(DatafluxOperator):
    """Join the listings of all name ranges into the manifest that one listing of the bucket would have made.

    The task proves that the ranges cover all names exactly once. It fails without a retry if a range is missing, if a
    range was listed twice, or if the listings had different requests. No row is copied: the joined index refers to the
    parts of the listings. So each listing needs its own `manifest_uri`, best below the joined one. Keep these
    directories as long as the joined manifest.

    The task returns a manifest reference. With `shards` or `shard_bytes` it returns a list of shard references for
    ``.expand()``, and pushes the reference of the whole manifest under the XCom key ``manifest``.

    :param manifests: references of the manifests, the `output` of the mapped listing. (templated)
    """

    requests = (JoinRequest, ShardRequest)
    operator_extra_links = (BucketLink(), ManifestLink())

    def __init__(
        self,
        *,
        manifests: Iterable[Mapping[str, Any] | str],
        manifest_uri: str,
        on_empty: OnEmpty = "continue",
        shards: int | str | None = None,
        shard_bytes: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> dict[str, Any] | list[dict[str, Any]]:
        """Prove, join, and return the reference or the shard references."""
        with airflow_outcomes():
            shards = parameters.request_from(ShardRequest, self.values(ShardRequest))
            uri = parameters.required_text(self.manifest_uri, "manifest_uri")
            ManifestLink().push_file(context, uri, "manifest.json")
            hook = self.open_hook()
            # Read before the join, which replaces it.
            earlier = hook.find_manifest(uri, user_project=self.user_project) if self.outlets else None
            manifest = hook.join(
                parameters.references(self.manifests), **self.values(JoinRequest), user_project=self.user_project
            )
            BucketLink().push(context, bucket_address(manifest.bucket, manifest.prefixes[0]))
            self.lineage = Lineage.of(manifest, manifest.uri)
            changed = earlier is None or earlier.fingerprint != manifest.fingerprint
            announce_manifest(self, context, manifest, changed=changed)
            self.log.info(
                "Joined %d manifests: %d objects, %d bytes in the manifest in %s",
                *(manifest.stats["joined"], len(manifest), manifest.total_bytes, manifest.uri),
            )
            return as_return_value(context, manifest, shards)
