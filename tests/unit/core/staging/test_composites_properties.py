"""The lifecycle rule, for every age."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.staging import lifecycle_rule


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36500)))
def test_a_rule_never_deletes_what_a_sweep_would_leave_alone_and_lags_by_less_than_a_day(older_than):
    condition = lifecycle_rule("composites/", older_than)["condition"]
    age = timedelta(days=condition["age"])
    assert age >= max(older_than, timedelta(days=1))
    assert age < older_than + timedelta(days=1) or age == timedelta(days=1)
    assert condition["matchesPrefix"] == ["composites/"]


@pytest.mark.parametrize(
    ("prefix", "older_than"), [("", timedelta(days=1)), ("composites", timedelta(days=1)), ("c/", timedelta(days=-1))]
)
def test_a_prefix_or_an_age_that_would_delete_too_much_is_refused(prefix, older_than):
    with pytest.raises(InvalidRequestError):
        lifecycle_rule(prefix, older_than)
