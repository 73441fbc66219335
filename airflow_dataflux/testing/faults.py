"""Scripted faults: which request fails, and how often that really happened.

A rule is met, then decided, then applied; only what was applied counts as a hit, so that a test can prove that its
fault took place. A fault of the body cannot be applied to an answer without one.
"""

from __future__ import annotations

import random

from airflow_dataflux.testing.orders import ChangeRule, FaultCount, FaultRule
from airflow_dataflux.testing.routes import Route

BODY_FAULTS = frozenset({"reset_body", "truncate", "flip", "stall_body"})


class ActiveFault:
    """A rule that was decided to hit one request."""

    __slots__ = ("_count", "identity", "rule")

    def __init__(self, identity: int, count: FaultCount) -> None:
        self.identity = identity
        self.rule = count.rule
        self._count = count

    def applied(self) -> None:
        """Count the hit: the fault takes place now."""
        self._count.hits += 1


class Faults:
    """All rules in the order they were given; the first that hits a request is the only one that does."""

    def __init__(self) -> None:
        self.seed = 0
        self._counts: list[FaultCount] = []
        self._decided: list[int] = []
        self._generators: list[random.Random] = []
        self._removed: set[int] = set()

    def add(self, rule: FaultRule) -> int:
        """Add a rule and return its identity."""
        self._counts.append(FaultCount(rule=rule))
        self._decided.append(0)
        seed = self.seed + len(self._counts) if rule.seed is None else rule.seed
        self._generators.append(random.Random(seed))  # noqa: S311 - chance that can be repeated
        return len(self._counts) - 1

    def remove(self, identity: int) -> None:
        """Stop a rule; its counts stay."""
        self._removed.add(identity)

    def counts(self) -> list[FaultCount]:
        """Return what became of each rule, by identity."""
        return self._counts

    def choose(self, route: Route, listed_prefix: str, *, only: str | None = None) -> ActiveFault | None:
        """Return the fault that a request has, if any; `only` looks at rules of one kind."""
        for identity, count in enumerate(self._counts):
            rule = count.rule
            if identity in self._removed or only not in (None, rule.kind) or not _fits(rule, route, listed_prefix):
                continue
            if rule.times is not None and self._decided[identity] >= rule.times:
                continue
            count.met += 1
            if rule.nth is not None:
                hit = count.met == rule.nth
            else:
                hit = self._generators[identity].random() < rule.probability
            if hit:
                self._decided[identity] += 1
                return ActiveFault(identity, count)
        return None


def _fits(rule: FaultRule, route: Route, listed_prefix: str) -> bool:
    if rule.operation is not None and rule.operation != route.operation:
        return False
    if rule.bucket is not None and rule.bucket != route.bucket:
        return False
    return (route.name or listed_prefix).startswith(rule.prefix)


class Changes:
    """Changes of objects that wait for their request."""

    def __init__(self) -> None:
        self._waiting: list[tuple[ChangeRule, int]] = []
        self.done = 0

    def add(self, rule: ChangeRule) -> None:
        """Add a change."""
        self._waiting.append((rule, rule.after))

    def due(self, route: Route) -> list[ChangeRule]:
        """Return the changes to make before this request, and count it for the others."""
        due, waiting = [], []
        for rule, left in self._waiting:
            counts = route.bucket == rule.bucket and rule.operation in (None, route.operation)
            if counts and left == 0:
                due.append(rule)
            else:
                waiting.append((rule, left - counts))
        self._waiting = waiting
        self.done += len(due)
        return due
