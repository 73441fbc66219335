"""SelectOperator: a manifest in, manifests of some of its objects out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_dataflux.addresses import bucket_address
from airflow_dataflux.core import parameters
from airflow_dataflux.core.config import SelectRequest
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links import BucketLink, ManifestLink
from airflow_dataflux.operators.asset_events import announce, announce_manifest
from airflow_dataflux.operators.base import DatafluxOperator
from airflow_dataflux.operators.openlineage import Lineage
from airflow_dataflux.operators.shard_references import ShardRequest, as_references, as_return_value

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.config import OnEmpty
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.hooks.dataflux import DatafluxHook


class SelectOperator(DatafluxOperator):
    """Select objects of a manifest, and divide them into splits without dividing a sample.

    Rows keep their generations. The same manifest and parameters give the same fingerprint. A hash of the sample's key
    and the seed decides about its split, so no sample moves to another split when the bucket grows.

    The task returns a manifest reference. With `shards` or `shard_bytes` it returns a list of shard references for
    ``.expand()``, and pushes the reference of the whole manifest under the XCom key ``manifest``. With `splits` it
    returns a dictionary with a reference (or such a list) for each split, and also pushes each of them under the name
    of its split as the XCom key: ``select.output["train"]``.

    :param manifest: reference or URI of a manifest. (templated)
    """

    requests = (SelectRequest, ShardRequest)
    operator_extra_links = (BucketLink(), ManifestLink())

    def __init__(
        self,
        *,
        manifest: Mapping[str, Any] | str,
        manifest_uri: str | None = None,
        include_glob: str | Sequence[str] | None = None,
        exclude_glob: str | Sequence[str] | None = None,
        match_regex: str | None = None,
        min_bytes: int | str | None = None,
        max_bytes: int | str | None = None,
        updated_after: datetime | str | None = None,
        updated_before: datetime | str | None = None,
        storage_classes: str | Sequence[str] | None = None,
        group_by: str | None = None,
        sample: float | str | None = None,
        per_group: int | str | None = None,
        seed: int | str = 0,
        class_by: str | None = None,
        splits: Mapping[str, float] | str | None = None,
        on_empty: OnEmpty = "continue",
        shards: int | str | None = None,
        shard_bytes: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> dict[str, Any] | list[dict[str, Any]]:
        """Select, and return the reference, the shard references, or those of each split."""
        with airflow_outcomes():
            shards = parameters.request_from(ShardRequest, self.values(ShardRequest))
            uri = parameters.optional_text(self.manifest_uri, "manifest_uri")
            hook = self.open_hook()
            source = hook.open_manifest(self.manifest, user_project=self.user_project)
            BucketLink().push(context, bucket_address(source.bucket, source.prefixes[0]))
            self.lineage = Lineage.of(source)
            # Read before the selection, which replaces it.
            earlier = self._earlier(hook, uri)
            made = hook.select(source, **self.values(SelectRequest), user_project=self.user_project)
            if not isinstance(made, dict):
                if made.uri is not None:
                    ManifestLink().push_file(context, made.uri, "manifest.json")
                self.lineage = Lineage.of(made, made.uri)
                announce_manifest(self, context, made, changed=earlier != {"": made.fingerprint})
                self._tell("The selection", made, len(source))
                return as_return_value(context, made, shards)
            for name, manifest in made.items():
                self._tell(f"Split {name!r}", manifest, len(source))
            fingerprints = {name: manifest.fingerprint for name, manifest in made.items()}
            announce(
                self,
                context,
                uri=f"gs://{source.bucket}/{source.prefixes[0]}",
                extra={
                    "fingerprints": fingerprints,
                    "manifest_uri": uri,
                    "objects": sum(map(len, made.values())),
                    "bytes": sum(manifest.total_bytes for manifest in made.values()),
                },
                changed=earlier != fingerprints,
            )
            returned = {name: as_references(manifest, shards) for name, manifest in made.items()}
            for name, value in returned.items():
                context["ti"].xcom_push(key=name, value=value)
            return returned

    def _earlier(self, hook: DatafluxHook, uri: str | None) -> dict[str, str]:
        """Return the fingerprints of what this selection replaces, by the splits' names; only events ask for them."""
        names = parameters.fractions(self.splits, "splits") or {"": 1.0}
        found = {}
        for name in names if self.outlets and uri else ():
            place = f"{str(uri).rstrip('/')}/{name}" if name else uri
            manifest = hook.find_manifest(place, user_project=self.user_project)
            if manifest is not None:
                found[name] = manifest.fingerprint
        return found

    def _tell(self, what: str, manifest: Manifest, considered: int) -> None:
        self.log.info(
            "%s has %d of %d objects, %d bytes, %d samples, in the manifest in %s",
            *(what, len(manifest), considered, manifest.total_bytes, manifest.stats["samples"], manifest.uri or "XCom"),
        )
        for found, count in manifest.stats.get("classes", {}).items():
            self.log.info("%s: %d samples of class %r", what, count, found)
