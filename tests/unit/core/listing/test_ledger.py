"""The proof of completeness refuses everything that is not one."""

from __future__ import annotations

import pickle

import pytest

from airflow_dataflux.core.errors import IncompleteListingError
from airflow_dataflux.core.listing.ledger import Ledger
from airflow_dataflux.core.namerange import NameRange, prefix_range


def test_ranges_that_tile_the_request_in_any_order_are_proof() -> None:
    ledger = Ledger([NameRange("a", "k"), NameRange("m", None)])
    for names in (NameRange("m", "z"), NameRange("c", "k"), NameRange("z", None), NameRange("a", "c")):
        ledger.finish(names)
    ledger.prove()


def test_a_gap_is_named() -> None:
    ledger = Ledger([NameRange("", None)])
    ledger.finish(NameRange("", "f"))
    ledger.finish(NameRange("g", None))
    with pytest.raises(IncompleteListingError, match=r"\['f', 'g'\)") as caught:
        ledger.prove()
    assert pickle.loads(pickle.dumps(caught.value)).missing == [NameRange("f", "g")]


@pytest.mark.parametrize("names", [NameRange("b", "d"), NameRange("", "b"), NameRange("c", None), NameRange("a", "c")])
def test_what_was_listed_already_is_refused(names: NameRange) -> None:
    ledger = Ledger([NameRange("", None)])
    ledger.finish(NameRange("a", "d"))
    with pytest.raises(IncompleteListingError, match="listed already"):
        ledger.finish(names)


def test_what_nobody_asked_for_is_refused() -> None:
    with pytest.raises(IncompleteListingError, match="nobody asked"):
        Ledger([prefix_range("a/")]).finish(NameRange("a", "b"))


def test_a_listing_that_never_began_is_not_complete() -> None:
    with pytest.raises(IncompleteListingError):
        Ledger([NameRange("", None)]).prove()
