"""A program that stages, to be killed: argv is endpoint, manifest, destination, strategy, try number.

As an Airflow task does, it cancels on SIGTERM and ends with the error that follows.
"""

from __future__ import annotations

import os
import signal
import sys

from airflow_dataflux.core.config import RunIdentity, StageRequest, StoreConfig
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import effort, stage


def main() -> None:
    endpoint, manifest, destination, strategy, try_number = sys.argv[1:]
    identity = RunIdentity(dag="victim", run="r1", task="stage", try_number=int(try_number))
    cancel = CancelToken()
    signal.signal(signal.SIGTERM, lambda _number, _frame: cancel.cancel("SIGTERM"))
    effort.ENGINE_PAYS_S = 0.0  # as if it were so much that an engine pays
    print("ready", flush=True)
    receipt = stage(
        Manifest.open(manifest),
        StageRequest(destination=destination, strategy=strategy, workers=2, max_in_flight=16, identity=identity),
        store_config=StoreConfig(endpoint=endpoint),
        tokens=AnonymousTokens(),
        cancel=cancel,
    )
    print(receipt.downloaded, receipt.reused, flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # while the interpreter shuts down, a SIGTERM that comes late would count as a death
