"""The hook: an Airflow connection and what DAG authors write on one side, the core on the other.

Guarantee: nothing here is imported while a DAG file that names only operators is parsed.
"""
