"""Airflow's sensors of this package."""
