"""Whether an installed package works: imports, metadata, command line, one listing and one staging.

    python .ci/smoke.py      # with the Python of the environment that the package is installed in

Run it from a directory outside the checkout, so that what is tested is what was installed. It needs the extra [testing]
for the embedded server, and no Airflow.
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points, version
from pathlib import Path


def main():
    """Try everything once; any failure ends the program."""
    import airflow_dataflux
    from airflow_dataflux.testing import GCSServer

    checkout = Path(__file__).resolve().parents[1]
    place = Path(airflow_dataflux.__file__).resolve()
    if checkout in place.parents and ".venv" not in str(place):
        sys.exit(f"{place} is the checkout, not what was installed. Run this elsewhere.")
    (provider,) = [entry for entry in entry_points(group="apache_airflow_provider") if "dataflux" in entry.value]
    assert provider.load()()["package-name"] == "airflow-provider-dataflux"
    assert version("airflow-provider-dataflux") == airflow_dataflux.__version__
    with tempfile.TemporaryDirectory() as home, GCSServer() as server:
        server.create_bucket("data")
        server.put_many("data", {f"train/{n:03}": bytes([n]) * n for n in range(200)})
        program = [str(Path(sys.executable).with_name("dataflux"))]

        def run(*arguments):
            environment = {**os.environ, **server.environment()}
            done = subprocess.run(
                [*program, *arguments], cwd=home, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{arguments} ended with {done.returncode}: {done.stderr}")
            return done.stdout

        assert len(run("list", "data").splitlines()) == 200
        run("list", "data", "--manifest-uri", "manifest")
        for fetched in (200, 0):
            assert json.loads(run("stage", "manifest", "tree", "--json"))["downloaded"] == fetched
        assert json.loads(run("verify", "tree", "--json")) == {"checked": 200, "mismatches": []}
        assert json.loads(run("pack", "manifest", "pack", "--json"))["object_count"] == 200
        assert Path(home, "tree/train/007").read_bytes() == bytes([7]) * 7
    print(f"airflow_dataflux {version('airflow-provider-dataflux')} works as installed in {place.parent}")


if __name__ == "__main__":
    main()
