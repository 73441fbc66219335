"""Request budgets, run against a simulated service on a simulated clock."""

from __future__ import annotations

import heapq
import random

import pytest

from airflow_dataflux.core.errors import CancelledError
from airflow_dataflux.core.gcs.rate_limit import Budgets, RequestBudget
from airflow_dataflux.core.gcs.store import NotWantedError
from airflow_dataflux.core.runtime.cancel import CancelToken


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SleepingToken(CancelToken):
    """Moves the clock instead of waiting."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.waits = 0

    def wait(self, timeout_s: float) -> bool:
        self.waits += 1
        self.clock.now += timeout_s
        return self.cancelled


class Service:
    """Accepts a steady rate with a quarter of a second's burst, as a token bucket."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.filled_at = 100.0
        self.tokens = rate / 4

    def accepts(self, now: float) -> bool:
        self.tokens = min(self.rate / 4, self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def run(budget: RequestBudget, clock: Clock, service: Service, seconds: float, latency_s: float = 0.02):
    """Send as fast as the budget lets, with answers after the latency; return (accepted, refused)."""
    token = SleepingToken(clock)
    answers: list[tuple[float, float, bool]] = []
    counts = {True: 0, False: 0}
    end = clock.now + seconds
    while clock.now < end:
        sent_at = budget.acquire(1, token)
        heapq.heappush(answers, (sent_at + latency_s, sent_at, service.accepts(sent_at)))
        clock.now += 0.0005  # what a request costs the one who sends it
        while answers and answers[0][0] <= clock.now:
            _, sent_at, accepted = heapq.heappop(answers)
            counts[accepted] += 1
            if accepted:
                budget.accepted(1)
            else:
                budget.throttled(sent_at, certain=True)
    return counts[True], counts[False]


@pytest.mark.parametrize("limit", [20, 100, 200, 500, 1000])
def test_a_limit_is_found_and_used_with_few_refusals(limit):
    clock = Clock()
    budget = RequestBudget(5000, clock=clock)
    accepted, refused = run(budget, clock, Service(limit), 60)
    assert accepted >= 0.8 * limit * 60
    assert refused <= 0.05 * (accepted + refused)
    assert refused > 0


@pytest.mark.parametrize("limit", [20, 200, 1000])
def test_a_process_that_is_told_what_was_found_meets_fewer_refusals_and_uses_the_limit(limit):
    clock = Clock()
    first = RequestBudget(5000, clock=clock)
    assert first.pace().found_per_s is None
    run(first, clock, Service(limit), 5)
    found = first.pace().found_per_s
    assert found == pytest.approx(limit, rel=0.3)

    refusals = []
    for known in (None, found):
        clock = Clock()
        accepted, refused = run(RequestBudget(5000, found_rate=known, clock=clock), clock, Service(limit), 5)
        refusals.append(refused)
    assert accepted >= 0.8 * limit * 5
    assert refusals[1] <= refusals[0] / 2


def test_what_was_found_never_exceeds_the_first_rate():
    assert RequestBudget(100, found_rate=5000, clock=Clock()).rate() <= 100


def test_a_limit_that_is_lifted_is_used_again_within_seconds():
    clock = Clock()
    budget = RequestBudget(5000, clock=clock)
    run(budget, clock, Service(50), 30)
    assert budget.rate() < 100
    run(budget, clock, Service(1e9), 20)
    assert budget.rate() > 500


def test_a_limit_that_falls_is_followed():
    clock = Clock()
    budget = RequestBudget(5000, clock=clock)
    run(budget, clock, Service(1000), 20)
    accepted, refused = run(budget, clock, Service(100), 20)
    assert accepted >= 0.6 * 100 * 20
    assert refused <= 0.1 * (accepted + refused)


def test_without_refusals_the_first_rate_doubles_in_twenty_minutes():
    clock = Clock()
    budget = RequestBudget(1000, clock=clock)
    assert budget.rate() == 1000
    clock.now += 1200
    assert budget.rate() == pytest.approx(2000)


def test_requests_are_spaced_by_the_rate():
    clock = Clock()
    budget = RequestBudget(100, clock=clock)
    token = SleepingToken(clock)
    times = [budget.acquire(1, token) for _ in range(200)]
    assert times == sorted(times)
    assert times[-1] - times[0] == pytest.approx(1.99, abs=0.05)


def test_a_batch_counts_as_its_calls():
    clock = Clock()
    budget = RequestBudget(100, clock=clock)
    token = SleepingToken(clock)
    budget.acquire(100, token)
    assert budget.acquire(1, token) == pytest.approx(101.0, abs=0.05)


def test_once_something_was_refused_a_batch_waits_until_each_of_its_calls_has_had_its_turn():
    clock = Clock()
    budget = RequestBudget(100, clock=clock)
    token = SleepingToken(clock)
    assert budget.acquire(50, token) == 100.0
    assert budget.most_at_once() is None
    clock.now += 1
    budget.throttled(clock.now, certain=True)
    before = budget.acquire(1, token)
    rate = budget.rate()
    assert 1 <= (most := budget.most_at_once()) <= rate / 10 + 1
    assert budget.acquire(most, token) - before >= 0.99 * most / rate


def test_calls_of_a_batch_that_were_refused_are_taken_back_from_what_was_accepted():
    clock = Clock()
    budget = RequestBudget(100, clock=clock)
    sent_at = budget.acquire(20, SleepingToken(clock))
    budget.accepted(20)
    for _ in range(20):
        budget.accepted(-1)
        budget.throttled(sent_at, certain=True)
    assert budget.rate() < 60


def test_a_reduced_budget_that_is_hardly_used_does_not_grow_beyond_what_was_tried():
    clock = Clock()
    budget = RequestBudget(5000, clock=clock)
    run(budget, clock, Service(100), 20)
    token = SleepingToken(clock)
    for _ in range(100):
        clock.now += 0.1
        budget.acquire(1, token)
        budget.accepted(1)
    assert budget.rate() < 200


def test_one_refusal_takes_at_most_about_half_of_a_rate():
    clock = Clock()
    budget = RequestBudget(1000, clock=clock)
    sent_at = [budget.acquire(1, SleepingToken(clock)) for _ in range(1000)][-1]
    clock.now += 0.03
    budget.throttled(sent_at, certain=True)
    assert 400 < budget.rate() < 1000


def test_the_refusal_of_an_old_request_does_not_reduce_twice():
    clock = Clock()
    budget = RequestBudget(1000, clock=clock)
    for _ in range(100):
        budget.accepted(1)
    sent_at = clock.now
    clock.now += 0.1
    budget.throttled(sent_at, certain=True)
    once = budget.rate()
    for _ in range(50):
        budget.throttled(sent_at, certain=True)
    assert budget.rate() == once < 1000


def test_waiting_requests_give_back_slots_of_a_rate_that_was_refused():
    clock = Clock()
    budget = RequestBudget(10, clock=clock)
    budget.acquire(10, SleepingToken(clock))  # the next slot is a second away

    class RefusedMeanwhile(SleepingToken):
        def wait(self, timeout_s: float) -> bool:
            cancelled = super().wait(timeout_s)
            if self.waits == 1:
                budget.throttled(clock.now, certain=True)
            return cancelled

    token = RefusedMeanwhile(clock)
    budget.acquire(1, token)
    assert token.waits == 2


def test_a_request_whose_turn_was_taken_back_is_given_up_if_it_is_not_wanted_any_more():
    clock = Clock()
    budget = RequestBudget(10, clock=clock)
    asked: list[float] = []

    def still_wanted() -> bool:
        asked.append(budget.pace().turn_s)
        return False

    assert budget.acquire(10, SleepingToken(clock), still_wanted) == clock.now
    assert budget.acquire(1, SleepingToken(clock), still_wanted) == clock.now  # it has waited, but nothing was refused

    class RefusedMeanwhile(SleepingToken):
        def wait(self, timeout_s: float) -> bool:
            budget.throttled(clock.now, certain=True)
            return super().wait(timeout_s)

    with pytest.raises(NotWantedError, match="given up while it waited for its turn"):
        budget.acquire(5, RefusedMeanwhile(clock), still_wanted)
    assert len(asked) == 1
    assert budget.pace().turn_s < 0.2, "a request that was given up waits no longer"


def test_the_queue_is_as_long_as_those_who_wait_are_many_also_after_a_reduction():
    """A reduction takes back their slots. That they still wait was not seen, and others were sent after them."""
    clock = Clock()
    budget = RequestBudget(100.0, clock=clock)
    turns: list[float] = []

    class Refused(CancelToken):
        def wait(self, timeout_s: float) -> bool:
            if not turns:
                sent_at, clock.now = clock.now, clock.now + 0.01
                budget.throttled(sent_at, certain=True)
                turns.append(budget.pace().turn_s)
            clock.now += timeout_s
            return self.cancelled

    budget.acquire(2, CancelToken())
    budget.acquire(1, CancelToken())
    budget.acquire(40, Refused())
    assert turns[0] >= 0.4
    assert budget.pace().turn_s < 1.0


def test_single_unavailable_answers_do_not_slow_down():
    clock = Clock()
    budget = RequestBudget(1000, clock=clock)
    chance = random.Random(1)
    for _ in range(5000):
        clock.now += 0.002
        budget.acquire(1, SleepingToken(clock))
        if chance.random() < 0.01:
            budget.throttled(clock.now, certain=False)
        else:
            budget.accepted(1)
    assert budget.rate() >= 1000


def test_many_unavailable_answers_among_good_ones_slow_down():
    clock = Clock()
    budget = RequestBudget(1000, clock=clock)
    for number in range(1000):
        clock.now += 0.002
        budget.acquire(1, SleepingToken(clock))
        if number % 4 == 0:
            budget.throttled(clock.now, certain=False)
        else:
            budget.accepted(1)
    assert budget.rate() < 500


def test_an_outage_does_not_slow_down_what_comes_after_it():
    clock = Clock()
    budget = RequestBudget(1000, clock=clock)
    for _ in range(100):
        clock.now += 0.1
        budget.throttled(clock.now, certain=False)
    assert budget.rate() >= 1000


def test_a_cancel_ends_the_wait_for_a_slot():
    budget = RequestBudget(0.001)
    token = CancelToken()
    budget.acquire(1, token)
    token.cancel("enough")
    with pytest.raises(CancelledError, match="enough"):
        budget.acquire(1, token)


def test_processes_share_the_first_rates():
    budgets = Budgets.first(0.25)
    assert (round(budgets.read.rate()), round(budgets.write.rate())) == (1250, 250)
    assert budgets.of("read") is budgets.read
    assert budgets.of("write") is budgets.write
