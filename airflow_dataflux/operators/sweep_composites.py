"""SweepCompositesOperator: removes the temporary objects that a killed run left."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from airflow_dataflux.addresses import bucket_address
from airflow_dataflux.compat import AirflowException
from airflow_dataflux.core import parameters
from airflow_dataflux.core.config import DEFAULT_COMPOSITE_PREFIX, DEFAULT_OLDER_THAN, SweepRequest
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.links import BucketLink
from airflow_dataflux.operators.base import DatafluxOperator
from airflow_dataflux.operators.metrics import record_sweep

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow_dataflux.compat import Context
    from airflow_dataflux.hooks.dataflux import DatafluxHook

_NAMED = 20
"""How many names a log line or an error lists."""


class SweepCompositesOperator(DatafluxOperator):
    """Delete leftovers: composites that outlived their run, for example after a SIGKILL.

    The task deletes only objects that a staging of this package made: both the pattern of the name and the custom
    metadata must match. It returns a dictionary with ``found``, ``deleted`` and ``failures``.

    :param print_lifecycle_rule: delete nothing and send no request; log the lifecycle rule with which the bucket
        deletes leftovers itself, and return it under ``rule``. (templated)
    """

    requests = (SweepRequest,)
    operator_extra_links = (BucketLink(),)

    def __init__(
        self,
        *,
        bucket: str,
        composite_prefix: str = DEFAULT_COMPOSITE_PREFIX,
        older_than: timedelta | int | str = DEFAULT_OLDER_THAN,
        dry_run: bool | str = False,
        print_lifecycle_rule: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> dict[str, Any]:
        """Sweep, and return what was found and deleted. Fails, with a retry, if something could not be deleted."""
        with airflow_outcomes():
            began = time.monotonic()
            hook = self.open_hook()
            bucket = parameters.required_text(self.bucket, "bucket")
            prefix = parameters.optional_text(self.composite_prefix, "composite_prefix") or DEFAULT_COMPOSITE_PREFIX
            BucketLink().push(context, bucket_address(bucket, prefix))
            if parameters.flag(self.print_lifecycle_rule, "print_lifecycle_rule"):
                return self._print_rule(hook)
            result = hook.sweep(**self.values(SweepRequest), user_project=self.user_project)
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
