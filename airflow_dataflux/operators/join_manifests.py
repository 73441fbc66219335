"""JoinManifestsOperator: the manifests of all name ranges in, one manifest out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links.storage import BucketLink, ManifestLink, bucket_address
from airflow_dataflux.operators.dataflux import DatafluxOperator
from airflow_dataflux.operators.division import checked_division, returned
from airflow_dataflux.operators.events import announce_manifest
from airflow_dataflux.operators.lineage import Lineage

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context


class JoinManifestsOperator(DatafluxOperator):
    """Join the listings of all name ranges into the manifest that one listing of the bucket would have made.

    Proves that the ranges tile all names: a missing range, one that was listed twice, and listings that were asked for
    different things fail the task without a retry. Copies no rows; the parts stay where the listings put them, so each
    listing needs a `manifest_uri` of its own, best below the joined one, kept as long as it.

    Returns a manifest reference; with `shards` or `shard_bytes` a list of shard references to ``.expand()`` over, and
    leaves the whole reference under the XCom key ``manifest``.

    :param manifests: references of the manifests, the `output` of the mapped listing. (templated)
    :param manifest_uri: directory of the joined manifest; none of theirs. (templated)
    :param shards: return this many shard references, or fewer: a shard is never empty. (templated)
    :param shard_bytes: return shard references of about this many bytes each. (templated)
    """

    template_fields: Sequence[str] = (
        "manifests",
        "manifest_uri",
        "shards",
        "shard_bytes",
        *DatafluxOperator.template_fields,
    )
    template_fields_renderers = {"manifests": "json", **DatafluxOperator.template_fields_renderers}  # noqa: RUF012 - Airflow's own declaration
    operator_extra_links = (BucketLink(), ManifestLink())

    def __init__(
        self,
        *,
        manifests: Iterable[Mapping[str, Any] | str],
        manifest_uri: str,
        shards: int | str | None = None,
        shard_bytes: int | str | None = None,
        user_project: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            user_project=user_project, gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain, **kwargs
        )
        self.manifests = manifests
        self.manifest_uri = manifest_uri
        self.shards = shards
        self.shard_bytes = shard_bytes

    def execute(self, context: Context) -> dict[str, Any] | list[dict[str, Any]]:
        """Prove, join, and return the reference or the shard references."""
        with airflow_outcomes():
            from airflow_dataflux.hooks import parameters

            division = checked_division(self.shards, self.shard_bytes)
            uri = parameters.required_text(self.manifest_uri, "manifest_uri")
            ManifestLink().push_file(context, uri, "manifest.json")
            hook = self.open_hook()
            # Read before the join, which replaces it.
            earlier = hook.find_manifest(uri, user_project=self.user_project) if self.outlets else None
            manifest = hook.join(parameters.references(self.manifests), uri, user_project=self.user_project)
            BucketLink().push(context, bucket_address(manifest.bucket, manifest.prefixes[0]))
            self.lineage = Lineage.of(manifest, manifest.uri)
            changed = earlier is None or earlier.fingerprint != manifest.fingerprint
            announce_manifest(self, context, manifest, changed=changed)
            self.log.info(
                "Joined %d manifests: %d objects, %d bytes in the manifest in %s",
                *(manifest.stats["joined"], len(manifest), manifest.total_bytes, manifest.uri),
            )
            return returned(context, manifest, division)
