"""PrefixSensor: waits until a prefix is quiet, or has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_dataflux.compat import BaseSensorOperator, PokeReturnValue
from airflow_dataflux.core import parameters
from airflow_dataflux.core.errors import InvalidRequestError, SkippedError
from airflow_dataflux.failures import airflow_outcomes

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.hooks.dataflux import DatafluxHook


class PrefixSensor(BaseSensorOperator):
    """Wait until a prefix is quiet, has changed, or both, and return its manifest.

    A prefix is quiet if its listings have had the same fingerprint for `quiet_for`: nothing was added, overwritten or
    deleted. Each poke lists the prefix (at least one class A request for each 1,000 objects). The sensor keeps its
    listing at `manifest_uri`, so it continues to wait after reschedules, retries and restarts. The next tasks can stage
    or pack the returned manifest, which is pinned by generation.

    Between pokes the sensor uses no worker slot (``mode="reschedule"``).

    :param bucket: name of the bucket, without gs://. (templated)
    :param prefix: prefix of the object names, or a list of prefixes. (templated)
    :param manifest_uri: directory of the manifest; must be different for each sensor. (templated)
    :param quiet_for: time without a change: a timedelta, or seconds. None: do not wait for this. (templated)
    :param changed_since: fingerprint, manifest reference or manifest URI that the prefix must differ from. If the
        manifest does not exist yet, the prefix differs. None: do not wait for this. (templated)
    :param user_project: project billed on requester-pays buckets. (templated)
    :param gcp_conn_id: Google Cloud connection. (templated)
    :param impersonation_chain: service account to impersonate, or a chain of them. (templated)
    """

    template_fields: Sequence[str] = (
        "bucket",
        "prefix",
        "manifest_uri",
        "quiet_for",
        "changed_since",
        "user_project",
        "gcp_conn_id",
        "impersonation_chain",
    )
    template_fields_renderers = {"changed_since": "json", "impersonation_chain": "json"}  # noqa: RUF012 - Airflow's own
    ui_color = "#e8f0fe"
    ui_fgcolor = "#174ea6"

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str | Sequence[str] = "",
        manifest_uri: str,
        quiet_for: timedelta | int | str | None = None,
        changed_since: Mapping[str, Any] | str | None = None,
        mode: str = "reschedule",
        user_project: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, **kwargs)
        self.bucket = bucket
        self.prefix = prefix
        self.manifest_uri = manifest_uri
        self.quiet_for = quiet_for
        self.changed_since = changed_since
        self.user_project = user_project
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self._hook: DatafluxHook | None = None
        self._killed = False

    def poke(self, context: Context) -> PokeReturnValue:
        """List once, and return the manifest's reference if the wait is over."""
        del context
        from airflow_dataflux.hooks.dataflux import DatafluxHook

        with airflow_outcomes():
            quiet_for = parameters.duration(self.quiet_for, "quiet_for")
            if quiet_for is None and parameters.is_absent(self.changed_since):
                raise InvalidRequestError("Say what to wait for: give quiet_for, changed_since or both.")
            hook = DatafluxHook(gcp_conn_id=self.gcp_conn_id, impersonation_chain=self.impersonation_chain)
            self._hook = hook
            if self._killed:
                self.on_kill()
            manifest = self._listed(hook)
            waiting = self._why_waiting(hook, manifest, quiet_for)
        if waiting:
            self.log.info("gs://%s/%s: %s", self.bucket, self.prefix, waiting)
            return PokeReturnValue(is_done=False)
        self.log.info("gs://%s/%s: %d objects, %s", self.bucket, self.prefix, len(manifest), manifest.fingerprint)
        return PokeReturnValue(is_done=True, xcom_value=manifest.reference())

    def on_kill(self) -> None:
        """End a listing that is under way."""
        self._killed = True
        if self._hook is not None:
            self._hook.cancel("Airflow ended this task")

    def _listed(self, hook: DatafluxHook) -> Manifest:
        """List; return what was found when it was first found to be so."""
        uri = parameters.required_text(self.manifest_uri, "manifest_uri")
        try:
            return hook.fast_list(
                self.bucket,
                self.prefix,
                manifest_uri=uri,
                seed_manifest=uri,
                on_unchanged="skip",
                report=False,
                user_project=self.user_project,
            )
        except SkippedError:
            return hook.open_manifest(uri, user_project=self.user_project)

    def _why_waiting(self, hook: DatafluxHook, manifest: Manifest, quiet_for: timedelta | None) -> str | None:
        if not parameters.is_absent(self.changed_since) and manifest.fingerprint == self._earlier_fingerprint(hook):
            return f"nothing changed since {manifest.fingerprint}"
        if quiet_for is not None:
            quiet = datetime.now(UTC) - manifest.listed_at
            if quiet < quiet_for:
                return f"{len(manifest)} objects, unchanged for {quiet.total_seconds():.0f} s; quiet_for is {quiet_for}"
        return None

    def _earlier_fingerprint(self, hook: DatafluxHook) -> str | None:
        given = parameters.read_back(self.changed_since)
        if isinstance(given, str) and "/" not in given:
            return given.strip()
        earlier = hook.find_manifest(self.changed_since, user_project=self.user_project)
        return None if earlier is None else earlier.fingerprint
