"""Operators: templated parameters in, small plain values out. Each validates in `execute` and works through the hook.

Import them from `airflow_dataflux` or from their own modules; this package imports nothing by itself.
"""
