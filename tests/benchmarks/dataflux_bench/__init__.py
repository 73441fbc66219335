"""The benchmark: this project's listing and staging beside their peers, on one server, in one run.

    python tests/benchmarks list --sizes 1k,10k --repeats 1
    python tests/benchmarks download --workloads 111x10KiB --repeats 1

How it measures is in docs/performance/README.md.
"""
