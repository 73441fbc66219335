"""The core library: listing, manifests and staging, without Airflow."""
