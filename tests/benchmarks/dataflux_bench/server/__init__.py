"""A Cloud Storage server for benchmarks: fast enough to leave the machine to those who are measured.

It serves immutable synthetic objects (and composites of them) with modelled latency over the JSON and XML APIs. It is
not the embedded server of `airflow_dataflux.testing`, which is faithful first: here every answer is rendered before the
measurement starts, HTTP is parsed by hand, and nothing that no peer asks for is there.
"""
