"""What Airflow is told about this distribution (entry point `apache_airflow_provider`).

Assumption of Airflow, in every version: `package-name` equals the distribution's canonical name, or every command
that loads providers ends with an error. Nothing is imported here but the version, because Airflow calls this in
every process.
"""

from __future__ import annotations

from typing import Any

from airflow_dataflux._version import __version__

_INTEGRATION = "Google Cloud Storage datasets (Dataflux)"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description in Airflow's `provider_info` schema."""
    return {
        "package-name": "airflow-provider-dataflux",
        "name": "Dataflux",
        "description": "Fast, exact listing and verified staging of `Google Cloud Storage "
        "<https://cloud.google.com/storage>`__ training data.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://cloud.google.com/storage/docs",
                "tags": ["gcp", "ml"],
            }
        ],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_dataflux.hooks.dataflux"]}],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_dataflux.operators.fast_list",
                    "airflow_dataflux.operators.compose_download",
                    "airflow_dataflux.operators.name_ranges",
                    "airflow_dataflux.operators.join_manifests",
                    "airflow_dataflux.operators.sweep_composites",
                    "airflow_dataflux.operators.compose_pack",
                    "airflow_dataflux.operators.join_packs",
                    "airflow_dataflux.operators.changed_partitions",
                    "airflow_dataflux.operators.prune_staged",
                ],
            }
        ],
        "sensors": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_dataflux.sensors.prefix"]}],
        "connection-types": [
            {
                "connection-type": "gcpdataflux",
                "hook-class-name": "airflow_dataflux.hooks.dataflux.DatafluxHook",
                "hook-name": "Google Cloud Dataflux",
            }
        ],
        "extra-links": [
            "airflow_dataflux.links.BucketLink",
            "airflow_dataflux.links.ManifestLink",
            "airflow_dataflux.links.ReceiptLink",
            "airflow_dataflux.links.ReportLink",
        ],
    }
