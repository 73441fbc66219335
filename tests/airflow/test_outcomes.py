"""What a task tells Airflow: retry or not, cancelled or not, lineage, credentials."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest

from airflow_dataflux import ComposeDownloadOperator, DatafluxHook, FastListOperator
from airflow_dataflux.compat import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
    has_plugin_pages,
)
from airflow_dataflux.core import errors
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.hooks import credentials
from airflow_dataflux.plugin import failed_tasks

FAILS, IS_TRIED_AGAIN = "fails without a retry", "is left to Airflow's retries"

OUTCOMES = {
    errors.DatafluxError: FAILS,
    errors.InvalidRequestError: FAILS,
    errors.CancelledError: IS_TRIED_AGAIN,  # a worker that shuts down; who marked the task as failed is obeyed anyway
    errors.EngineError: IS_TRIED_AGAIN,
    errors.StoreError: FAILS,
    errors.AuthenticationError: FAILS,
    errors.PermissionDeniedError: FAILS,
    errors.BucketNotFoundError: FAILS,
    errors.ObjectNotFoundError: FAILS,
    errors.PreconditionFailedError: FAILS,
    errors.UnavailableError: IS_TRIED_AGAIN,
    errors.ThrottledError: IS_TRIED_AGAIN,
    errors.ListingError: FAILS,
    errors.EmptyListingError: FAILS,
    errors.IncompleteListingError: IS_TRIED_AGAIN,
    errors.ManifestError: FAILS,
    errors.ManifestTooLargeError: FAILS,
    errors.ManifestNotFoundError: FAILS,
    errors.ManifestChangedError: FAILS,
    errors.ManifestConflictError: IS_TRIED_AGAIN,
    errors.StagingError: FAILS,
    errors.DestinationError: FAILS,
    errors.DestinationBusyError: IS_TRIED_AGAIN,
    errors.InsufficientSpaceError: FAILS,
    errors.UnsafeNameError: FAILS,
    errors.DeletionRefusedError: FAILS,
    errors.ObjectsChangedError: FAILS,
    errors.UnreadableObjectsError: FAILS,
    errors.CostLimitError: FAILS,
    errors.PackError: IS_TRIED_AGAIN,
    errors.VerificationError: IS_TRIED_AGAIN,
}
"""Every error of the core. What doing the same again cannot cure fails at once."""


def test_every_error_of_the_core_has_its_place_in_the_table() -> None:
    defined = {
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.DatafluxError)
    }
    assert {*OUTCOMES, errors.SkippedError} == defined


def test_what_there_is_no_work_for_skips_the_task() -> None:
    with pytest.raises(AirflowSkipException, match=r"^Nothing to do\.$"), airflow_outcomes():
        raise errors.SkippedError("Nothing to do.")


@pytest.mark.parametrize(("kind", "outcome"), OUTCOMES.items(), ids=[kind.__name__ for kind in OUTCOMES])
def test_an_error_of_the_core_has_the_outcome_of_the_table(kind: type[errors.DatafluxError], outcome: str) -> None:
    with pytest.raises(AirflowException) as caught, airflow_outcomes():
        raise kind("What went wrong.", name="gs://b/o#1")
    assert isinstance(caught.value, AirflowFailException) == (outcome == FAILS)
    assert str(caught.value) == f"{kind.__name__}: What went wrong."
    assert isinstance(caught.value.__cause__, kind)
    assert caught.value.__cause__.name == "gs://b/o#1"


@pytest.mark.parametrize("kind", OUTCOMES, ids=[kind.__name__ for kind in OUTCOMES])
def test_an_error_of_the_core_arrives_whole_from_another_process(kind: type[errors.DatafluxError]) -> None:
    again = pickle.loads(pickle.dumps(kind("What went wrong.", names=["a"])))
    assert (type(again), str(again), again.details) == (kind, "What went wrong.", {"names": ["a"]})


@pytest.mark.parametrize("kind", [AirflowSkipException, AirflowFailException, AirflowException])
def test_airflows_own_outcomes_pass_unchanged(kind: type[Exception]) -> None:
    raised = kind("as it is")
    with pytest.raises(kind) as caught, airflow_outcomes():
        raise raised
    assert caught.value is raised


def test_what_is_no_error_of_the_core_passes_unchanged() -> None:
    with pytest.raises(KeyError), airflow_outcomes():
        raise KeyError("bug")


def test_a_kill_before_execute_has_begun_its_work_is_not_lost(gcs_server, tmp_path: Path) -> None:
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", {"a": b"1", "b": b"2"})
    manifest = DatafluxHook().fast_list("data").reference()
    gcs_server.forget_requests()
    operator = ComposeDownloadOperator(task_id="t", manifest=manifest, destination=str(tmp_path / "staged"))
    operator.on_kill()
    hook = operator.open_hook()
    with pytest.raises(errors.CancelledError, match="Airflow ended this task"):
        hook.stage(manifest, str(tmp_path / "staged"))
    assert not (tmp_path / "staged").exists()
    assert "read" not in gcs_server.requests().operations


def test_killing_a_task_that_does_nothing_is_harmless() -> None:
    FastListOperator(task_id="t", bucket="b").on_kill()


def test_an_emulator_is_asked_without_looking_at_the_connection(gcs_server, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the connection was looked at")

    monkeypatch.setattr(credentials, "google_credentials", refuse)
    gcs_server.create_bucket("data")
    hook = DatafluxHook(gcp_conn_id="does-not-exist")
    assert len(hook.fast_list("data")) == 0
    assert hook.test_connection() == (True, "Access is anonymous.")
    assert all("authorization" not in str(record).lower() for record in gcs_server.log())


def test_a_connection_that_is_missing_is_an_error_that_names_it(monkeypatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)

    def missing(*_: object) -> None:
        raise AirflowNotFoundException("The conn_id `nowhere` isn't defined")

    monkeypatch.setattr(credentials, "google_credentials", missing)
    hook = DatafluxHook(gcp_conn_id="nowhere")
    with pytest.raises(errors.AuthenticationError, match=r"'nowhere' .*there is no such connection"):
        hook.tokens.fetch()
    assert hook.test_connection()[0] is False


def test_a_connection_with_a_broken_key_is_an_error_that_names_it(monkeypatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", '{"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": "{"}}')
    hook = DatafluxHook(gcp_conn_id="broken")
    with pytest.raises(errors.AuthenticationError, match=r"'broken' gives no Google credentials: Invalid key JSON"):
        hook.tokens.fetch()


def test_an_anonymous_connection_has_no_token(monkeypatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_OPEN", '{"conn_type": "google_cloud_platform", "extra": {"is_anonymous": true}}')
    assert DatafluxHook(gcp_conn_id="open").tokens.fetch() is None


def test_the_hook_has_the_form_of_a_google_connection() -> None:
    behaviour = DatafluxHook.get_ui_field_behaviour()
    assert "host" in behaviour["hidden_fields"]


def test_the_log_has_an_error_as_one_entry_in_lines_that_a_window_shows(caplog: pytest.LogCaptureFixture) -> None:
    uri = "gs://bucket/" + "x" * 120  # is not broken: somebody will copy it
    with pytest.raises(AirflowException), airflow_outcomes():
        raise errors.StoreError(f"Could not read {uri}: " + "it is not there, " * 20 + "so list again.")
    (entry,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert entry.startswith("StoreError: Could not read")
    assert entry.endswith("so list again.")
    if has_plugin_pages():
        assert max(len(line) for line in entry.splitlines() if uri not in line) <= 100
    assert uri in entry


def test_a_listener_logs_what_an_error_of_the_core_says_in_short(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AirflowException) as raised, airflow_outcomes():
        raise errors.BucketNotFoundError("Could not list objects gs://picures/: 404.", resource="gs://picures/")
    for failed in (raised.value, raised.value.__cause__):  # of an operator, and of a task with the hook
        caplog.clear()
        failed_tasks.on_task_instance_failed(error=failed)
        last = caplog.records[-1]
        assert (last.levelname, last.getMessage()) == (
            "ERROR",
            "gs://picures/: no such bucket. Check its name and the credentials.",
        )


@pytest.mark.parametrize("error", [None, "marked as failed", KeyError("bug"), AirflowFailException("of another task")])
def test_a_listener_says_nothing_of_other_errors(error: object, caplog: pytest.LogCaptureFixture) -> None:
    failed_tasks.on_task_instance_failed(error=error)
    assert caplog.records == []
