"""SweepCompositesOperator: removes the temporary objects that a killed run left."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_dataflux.compat import AirflowException
from airflow_dataflux.core.config import DEFAULT_COMPOSITE_PREFIX
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links.storage import BucketLink, bucket_address
from airflow_dataflux.operators.dataflux import DatafluxOperator
from airflow_dataflux.operators.metrics import record_sweep

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.hooks.dataflux import DatafluxHook

_NAMED = 20
"""How many names a log line or an error lists."""


class SweepCompositesOperator(DatafluxOperator):
    """Delete leftovers: composites that outlived their run, as after a SIGKILL.

    Deletes only what a staging of this package made: the name's pattern and the custom metadata must both match.
    Returns a dictionary with ``found``, ``deleted`` and ``failures``.

    :param bucket: bare name of the bucket. (templated)
    :param composite_prefix: where the stagings name their temporary objects. (templated)
    :param older_than: leave younger ones alone, whose run may still be at work: a timedelta, or seconds. (templated)
    :param dry_run: only count. (templated)
    :param print_lifecycle_rule: sweep nothing and send no request; log and return the lifecycle rule that makes the
        bucket sweep by itself, under ``rule``. (templated)
    """

    template_fields: Sequence[str] = (
        "bucket",
        "composite_prefix",
        "older_than",
        "is_dry_run",
        "print_lifecycle_rule",
        *DatafluxOperator.template_fields,
    )
    operator_extra_links = (BucketLink(),)

    def __init__(
        self,
        *,
        bucket: str,
        composite_prefix: str = DEFAULT_COMPOSITE_PREFIX,
        older_than: timedelta | int | str = timedelta(days=1),
        dry_run: bool | str = False,
        print_lifecycle_rule: bool | str = False,
        user_project: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            user_project=user_project, gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain, **kwargs
        )
        self.bucket = bucket
        self.composite_prefix = composite_prefix
        self.older_than = older_than
        self.is_dry_run = dry_run  # `dry_run` is a method of every operator
        self.print_lifecycle_rule = print_lifecycle_rule

    def execute(self, context: Context) -> dict[str, Any]:
        """Sweep, and return what was found and deleted. Fails, with a retry, if something could not be deleted."""
        with airflow_outcomes():
            from airflow_dataflux.hooks import parameters

            began = time.monotonic()
            hook = self.open_hook()
            BucketLink().push(context, bucket_address(self.bucket, self.composite_prefix))
            if parameters.flag(self.print_lifecycle_rule, "print_lifecycle_rule"):
                return self._print_rule(hook)
            result = hook.sweep(
                self.bucket,
                composite_prefix=self.composite_prefix,
                older_than=self.older_than,
                dry_run=self.is_dry_run,
                user_project=self.user_project,
            )
            names = [failure.version.name for failure in result.failures]
            summary: dict[str, Any] = {
                "bucket": self.bucket,
                "found": len(result.found),
                "deleted": result.deleted,
                "failures": names[:_NAMED],
            }
            self.log.info(
                "Found %d leftovers and deleted %d: %s", len(result.found), result.deleted, list(result.found[:_NAMED])
            )
            record_sweep(
                context,
                found=len(result.found),
                deleted=result.deleted,
                failures=len(names),
                seconds=time.monotonic() - began,
            )
            if result.failures:
                raise AirflowException(
                    f"{len(names)} of {len(result.found)} leftovers below gs://{self.bucket}/{self.composite_prefix} "
                    f"could not be deleted, the first because {result.failures[0].reason}: {', '.join(names[:_NAMED])}."
                )
            return summary

    def _print_rule(self, hook: DatafluxHook) -> dict[str, Any]:
        rule = hook.lifecycle_rule(composite_prefix=self.composite_prefix, older_than=self.older_than)
        self.log.info(
            "This rule deletes everything below gs://%s/%s that is %d days old, whoever made it. Add it to those that "
            "the bucket has (gcloud storage buckets describe gs://%s --format='json(lifecycle_config)'), and set all "
            "of them with gcloud storage buckets update gs://%s --lifecycle-file=FILE:\n%s",
            self.bucket,
            self.composite_prefix,
            rule["condition"]["age"],
            self.bucket,
            self.bucket,
            json.dumps({"rule": [rule]}, indent=2),
        )
        return {"bucket": self.bucket, "rule": rule}
