"""What a task tells Airflow: retry or not, cancelled or not, asset events, lineage, credentials."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from dag_runs import AIRFLOW_3, run_dag

from airflow_dataflux import ComposeDownloadOperator, DatafluxHook, FastListOperator
from airflow_dataflux.compat import AirflowException, AirflowFailException, AirflowNotFoundException
from airflow_dataflux.core import errors
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.hooks import credentials

ALL_ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.DatafluxError)]


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_an_error_of_the_core_is_retried_exactly_if_that_can_help(kind: type[errors.DatafluxError]) -> None:
    again = kind.retryable or kind is errors.CancelledError
    with pytest.raises(AirflowException) as caught, airflow_outcomes():
        raise kind("What went wrong.", name="gs://b/o#1")
    assert isinstance(caught.value, AirflowFailException) == (not again)
    assert str(caught.value) == f"{kind.__name__}: What went wrong."
    assert isinstance(caught.value.__cause__, kind)
    assert caught.value.__cause__.name == "gs://b/o#1"


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


def asset_events(uri_part: str) -> list[dict]:
    """Return the extras of all asset events whose asset's URI holds `uri_part`, oldest first."""
    from airflow.utils.session import create_session

    if AIRFLOW_3:
        from airflow.models.asset import AssetEvent, AssetModel

        statement = AssetEvent, AssetModel, AssetEvent.asset_id == AssetModel.id
    else:
        from airflow.models.dataset import DatasetEvent, DatasetModel

        statement = DatasetEvent, DatasetModel, DatasetEvent.dataset_id == DatasetModel.id
    event, asset, same = statement
    with create_session() as session:
        found = session.query(event).join(asset, same).filter(asset.uri.contains(uri_part)).order_by(event.id)
        return [one.extra for one in found]


@pytest.mark.usefixtures("airflow_database")
def test_an_alias_has_an_event_only_when_the_data_changed(gcs_server, tmp_path: Path) -> None:
    gcs_server.create_bucket("announced-data")
    gcs_server.put("announced-data", "one", b"1")
    uri = (tmp_path / "manifest").as_uri()
    conf = {"bucket": "announced-data", "manifest_uri": uri, "seed_manifest": uri}
    references = [run_dag("announcing", conf).xcom("list") for _ in range(2)]
    gcs_server.put("announced-data", "two", b"22")
    references.append(run_dag("announcing", conf).xcom("list"))
    extras = [
        {
            "fingerprint": reference["fingerprint"],
            "manifest_uri": uri,
            "objects": reference["object_count"],
            "bytes": reference["total_bytes"],
        }
        for reference in references
    ]
    always = [{key: extra[key] for key in extras[0]} for extra in asset_events("announced/always")]
    assert always == extras
    changed = [{key: extra[key] for key in extras[0]} for extra in asset_events("announced-data")]
    assert changed == [extras[0], extras[2]]


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
