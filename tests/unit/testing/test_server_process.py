"""The server as a process: its life, its command line, its faults on the wire, its modelled service."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import requests

from airflow_dataflux.testing import GCSServer, GCSServerError

READ = "/download/storage/v1/b/data/o/x?alt=media"


@pytest.fixture
def server(gcs_server: GCSServer) -> GCSServer:
    gcs_server.create_bucket("data")
    gcs_server.put("data", "x", bytes(range(250)) * 4)
    return gcs_server


def get(server: GCSServer, path: str = READ) -> requests.Response:
    return requests.get(server.endpoint + path, timeout=60)


def test_a_server_starts_serves_and_is_gone_when_stopped() -> None:
    with GCSServer(page_cap=7) as server:
        process = server.pid
        assert process is not None
        server.create_bucket("b")
        server.synthesize("b", count=20)
        assert len(get(server, "/storage/v1/b/b/o").json()["items"]) == 7
        server.reset()
        assert server.requests().operations == {}
        server.create_bucket("b")
        server.synthesize("b", count=20)
        assert len(get(server, "/storage/v1/b/b/o").json()["items"]) == 7, "settings of the start outlive a reset"
    assert not server.running
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    with pytest.raises(GCSServerError, match="not running"):
        server.requests()


@pytest.mark.parametrize("forked", [False, True], ids=["alone", "with a forked process that lives on"])
def test_a_server_does_not_outlive_an_owner_that_is_killed(forked: bool) -> None:
    script = f"""
        import os, signal
        from airflow_dataflux.testing import GCSServer

        server = GCSServer().start()
        child = os.fork() if {forked} else -1
        if child:
            print(server.pid, server.endpoint, child, flush=True)
        signal.pause()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    process, endpoint, child = owner.stdout.readline().decode().split()
    descriptor = os.pidfd_open(int(process))
    try:
        assert requests.get(f"{endpoint}/storage/v1/b", timeout=60).status_code == 200
        assert select.select([descriptor], [], [], 0)[0] == []
        owner.kill()
        owner.wait()
        owner.stdout.close()
        assert select.select([descriptor], [], [], 60)[0] == [descriptor], "the server is still there"
    finally:
        os.close(descriptor)
        if forked:
            os.kill(int(child), signal.SIGKILL)


def test_a_server_is_stopped_although_a_forked_process_holds_its_pipe() -> None:
    script = """
        import os, signal
        from airflow_dataflux.testing import GCSServer

        server = GCSServer().start()
        child = os.fork()
        if child == 0:
            signal.pause()
        server.stop()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("stopped" if not server.running else "running")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == b"stopped"


def test_an_order_that_cannot_be_carried_out_says_why(server: GCSServer) -> None:
    with pytest.raises(GCSServerError, match="does not exist"):
        server.put("nowhere", "x", b"")
    with pytest.raises(GCSServerError, match="page_cup"):
        server.configure(page_cup=5)
    with pytest.raises(TypeError, match="colour"):
        server.put("data", "x", b"", colour="red")
    with pytest.raises(GCSServerError, match="kind"):
        server.fail("explode")  # type: ignore[arg-type]


def test_a_port_that_is_taken_is_an_error(server: GCSServer) -> None:
    port = int(server.endpoint.rpartition(":")[2])
    with pytest.raises(GCSServerError, match="ended at its start"):
        GCSServer(port=port).start()


def test_the_command_line_serves_what_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("from disk")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "airflow_dataflux.testing", "--bucket", "empty", "--seed", f"files/in={tmp_path}",
            "--synthesize", "many=25:uuid:9", "--set", "page_cap=10",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        endpoint = process.stdout.readline().decode().strip()
        buckets = requests.get(f"{endpoint}/storage/v1/b", timeout=60).json()["items"]
        assert [bucket["name"] for bucket in buckets] == ["empty", "files", "many"]
        url = f"{endpoint}/download/storage/v1/b/files/o/inone.txt?alt=media"
        assert requests.get(url, timeout=60).text == "from disk"
        page = requests.get(f"{endpoint}/storage/v1/b/many/o", timeout=60).json()
        assert [item["size"] for item in page["items"]] == ["9"] * 10
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.mark.parametrize("arguments", [["--seed", "b=/nowhere/at/all"], ["--set", "nonsense=1"], ["--synthesize", "x"]])
def test_a_wrong_command_line_says_what_is_wrong(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow_dataflux.testing", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert b"did not start" in done.stderr


def test_the_package_and_the_plugin_import_no_server() -> None:
    code = """
        import sys
        import airflow_dataflux.testing.plugin, airflow_dataflux.testing
        airflow_dataflux.testing.GCSServer
        heavy = {"aiohttp", "numpy", "google_crc32c", "airflow", "pyarrow"} & set(sys.modules)
        sys.exit(f"imported {heavy}" if heavy else 0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def read_raw(server: GCSServer) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=60)
    try:
        connection.request("GET", READ)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_scripted_status_is_answered_with_its_retry_after(server: GCSServer) -> None:
    fault = server.fail("status", operation="stat", status=429, retry_after_s=2, times=1)
    answer = get(server, "/storage/v1/b/data/o/x")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    assert answer.json()["error"]["errors"][0]["reason"] == "rateLimitExceeded"
    assert get(server, "/storage/v1/b/data/o/x").status_code == 200
    assert server.faults()[fault].hits == 1


def test_a_reset_breaks_the_connection_before_anything_is_done(server: GCSServer) -> None:
    fault = server.fail("reset", operation="delete")
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=60)
    connection.request("DELETE", "/storage/v1/b/data/o/x")
    with pytest.raises(ConnectionResetError):
        connection.getresponse()
    connection.close()
    assert server.find("data", "x") is not None
    assert server.faults()[fault].hits == 1


def test_a_lost_answer_breaks_the_connection_after_the_work(server: GCSServer) -> None:
    fault = server.fail("lose_answer", operation="delete")
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=60)
    connection.request("DELETE", "/storage/v1/b/data/o/x")
    with pytest.raises(ConnectionResetError):
        connection.getresponse()
    connection.close()
    assert server.find("data", "x") is None
    assert server.faults()[fault].hits == 1


def test_a_truncated_body_ends_in_order_but_early(server: GCSServer) -> None:
    fault = server.fail("truncate", operation="read", after_bytes=10)
    with pytest.raises(http.client.IncompleteRead) as caught:
        read_raw(server)
    assert caught.value.partial == bytes(range(10))
    assert server.faults()[fault].hits == 1


def test_a_body_can_be_reset(server: GCSServer) -> None:
    fault = server.fail("reset_body", operation="read")
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        read_raw(server)
    assert server.faults()[fault].hits == 1


def test_a_flipped_bit_comes_under_a_right_checksum(server: GCSServer) -> None:
    fault = server.fail("flip", operation="read", after_bytes=7, times=1)
    wrong, right = get(server), get(server)
    assert wrong.headers["X-Goog-Hash"] == right.headers["X-Goog-Hash"]
    assert len(wrong.content) == len(right.content)
    assert [i for i in range(1000) if wrong.content[i] != right.content[i]] == [7]
    assert server.faults()[fault].hits == 1


@pytest.mark.parametrize("kind", ["stall", "stall_body"])
def test_a_stalled_answer_comes_late_but_whole(server: GCSServer, kind: str) -> None:
    fault = server.fail(kind, operation="read", stall_s=0.3)
    start = time.monotonic()
    assert read_raw(server) == (200, bytes(range(250)) * 4)
    assert time.monotonic() - start >= 0.3
    assert server.faults()[fault].hits == 1


def test_a_body_fault_cannot_hit_an_answer_without_a_body(server: GCSServer) -> None:
    fault = server.fail("truncate", operation="delete")
    assert requests.delete(f"{server.endpoint}/storage/v1/b/data/o/x", timeout=60).status_code == 204
    (count,) = server.faults()
    assert (fault, count.met, count.hits) == (0, 1, 0)


def test_a_listing_page_can_be_truncated(server: GCSServer) -> None:
    fault = server.fail("truncate", operation="list")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        get(server, "/storage/v1/b/data/o")
    assert server.faults()[fault].hits == 1


def test_a_stopped_fault_hits_no_more(server: GCSServer) -> None:
    fault = server.fail("status", operation="read")
    assert get(server).status_code == 503
    server.stop_failing(fault)
    assert get(server).status_code == 200


def test_an_object_changes_just_before_a_later_request(server: GCSServer) -> None:
    server.change_later("data", "x", b"changed", operation="read", after=1)
    server.change_later("data", "x", None, operation="read", after=2)
    assert [len(get(server).content) for _ in range(2)] == [1000, 7]
    assert get(server).status_code == 404
    assert server.changes_made() == 2


def test_budgets_answer_429_above_them(server: GCSServer) -> None:
    server.configure(reads_per_s=0.001, budget_burst_s=5000, retry_after_s=3)
    answers = [get(server) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert answers[-1].headers["Retry-After"] == "3"
    assert server.requests().statuses == {"200": 5, "429": 3}


def test_latency_and_bandwidth_are_waited_out(server: GCSServer) -> None:
    server.configure(latency_s={"read": 0.1}, bytes_per_s=5000.0)
    start = time.monotonic()
    assert len(get(server).content) == 1000
    assert time.monotonic() - start >= 0.3


def test_a_million_synthetic_objects_are_held_in_little_memory() -> None:
    with GCSServer() as server:
        for position, style in enumerate(["flat", "classes", "deep", "uuid", "unicode", "timestamps"]):
            server.create_bucket(f"bucket-{position}")
            server.synthesize(f"bucket-{position}", count=1_000_000, style=style, size=10_240)  # type: ignore[arg-type]
            page = get(server, f"/storage/v1/b/bucket-{position}/o?fields=items(name,size,crc32c),nextPageToken")
            assert len(json.loads(page.content)["items"]) == 1000
        digest = server.listing("bucket-3")
        assert (digest.count, digest.total_bytes) == (1_000_000, 10_240_000_000)
        status = Path(f"/proc/{server.pid}/status").read_text()
        peak_kib = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        assert peak_kib < 300 * 1024
