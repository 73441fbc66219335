"""What stands between a request and its answer: scripted faults, rate limits, accepted tokens, latency and bandwidth.

A fault's rule is met, then decided, then applied; only what was applied counts as a hit, so that a test can prove that
its fault took place. A fault of the body cannot be applied to an answer without one.

Each bucket has a budget for reads, writes and lists (a token bucket), above which the answer is 429.

Latency is what a far server and its network would add; it is waited out by `asyncio.sleep`, so that any number of
requests wait at once for the price of a timer each. Jitter comes from a seeded generator.
"""

from __future__ import annotations

import math
import random
import secrets
import time
from collections.abc import Callable
from typing import Any

from airflow_dataflux.testing.control_messages import ChangeRule, FaultCount, FaultRule, Settings
from airflow_dataflux.testing.http_messages import ApiError
from airflow_dataflux.testing.routes import WRITES, Route

BODY_FAULTS = frozenset({"reset_body", "truncate", "flip", "stall_body", "trickle"})


class ActiveFault:
    """A rule that was decided to hit one request."""

    __slots__ = ("_count", "identity", "rule", "was_applied")

    def __init__(self, identity: int, count: FaultCount) -> None:
        self.identity = identity
        self.rule = count.rule
        self._count = count
        self.was_applied = False

    def applied(self) -> None:
        """Count the hit: the fault takes place now."""
        self._count.hits += 1
        self.was_applied = True


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

    def give_back(self, fault: ActiveFault) -> None:
        """Let another request have a fault whose request ended before it could take place."""
        if not fault.was_applied:
            self._decided[fault.identity] -= 1

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


class TokenBucket:
    """A rate that bursts may exceed: it fills at `per_s` and holds `burst_s` seconds' worth, at least one."""

    __slots__ = ("_clock", "_filled_at", "_most", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._most = max(1.0, per_s * burst_s)
        self._tokens = self._most
        self._filled_at = clock()

    def take(self, cost: float = 1.0) -> bool:
        """Spend `cost` if it is there; return whether it was."""
        now = self._clock()
        self._tokens = min(self._most, self._tokens + (now - self._filled_at) * self._per_s)
        self._filled_at = now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True


class RequestBudgets:
    """The rates of all buckets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token_buckets: dict[tuple[str, str], TokenBucket] = {}

    def spend(self, operation: str, bucket: str) -> None:
        """Take one request from a bucket's budgets. Raises ApiError (429) if one of them is used up."""
        settings = self._settings
        if operation == "batch":
            return  # its calls are counted one by one
        kinds: list[tuple[str, float | None]] = (
            [("writes", settings.writes_per_s)] if operation in WRITES else [("reads", settings.reads_per_s)]
        )
        if operation == "list":
            kinds.append(("lists", settings.lists_per_s))
        for kind, rate in kinds:
            if rate is None:
                continue
            token_bucket = self._token_buckets.get((bucket, kind))
            if token_bucket is None:
                token_bucket = self._token_buckets[bucket, kind] = TokenBucket(rate, settings.budget_burst_s)
            if not token_bucket.take():
                after = settings.retry_after_s
                raise ApiError(
                    429,
                    "rateLimitExceeded",
                    f"The bucket {bucket} exceeded its rate of {kind}. Please reduce your request rate.",
                    headers={} if after is None else {"Retry-After": f"{after:g}"},
                )


class AcceptedTokens:
    """Accepts any caller, or only those with a token that is known and not at its end. Hands out tokens, too."""

    def __init__(self, tokens: dict[str, float | None] | None = None, minted_life_s: float | None = None) -> None:
        now = time.monotonic()
        self._minted_life_s = minted_life_s
        self._ends: dict[str, float | None] | None = None
        if tokens is not None or minted_life_s is not None:
            self._ends = {token: None if life_s is None else now + life_s for token, life_s in (tokens or {}).items()}

    def mint(self) -> dict[str, Any]:
        """Return a new token as an OAuth 2.0 token endpoint answers. Raises ApiError (404) if it is not set up."""
        if self._minted_life_s is None or self._ends is None:
            raise ApiError(404, "notFound", "This server hands out no tokens: set token_life_s.")
        token = f"minted-{secrets.token_hex(8)}"
        self._ends[token] = time.monotonic() + self._minted_life_s
        return {"access_token": token, "token_type": "Bearer", "expires_in": math.ceil(self._minted_life_s)}

    def check(self, authorization: str | None) -> None:
        """Raise ApiError (401) unless the caller is accepted."""
        if self._ends is None:
            return
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or token not in self._ends:
            reason = "required" if not authorization else "authError"
            raise self._refused(reason, "Login Required." if not authorization else "Invalid Credentials")
        end = self._ends[token]
        if end is not None and time.monotonic() >= end:
            raise self._refused("authError", "Invalid Credentials")

    @staticmethod
    def _refused(reason: str, message: str) -> ApiError:
        return ApiError(
            401, reason, message, headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'}
        )


_PIECE_S = 0.02
"""Long enough that a timer costs little beside it."""


class Timing:
    """Durations of one server, by its settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._random = random.Random(settings.seed)  # noqa: S311 - chance that can be repeated

    def latency_s(self, operation: str, *, rows: int = 0, sources: int = 0, calls: int = 0) -> float:
        """Return how long until the first byte of an answer."""
        settings = self._settings
        latency_s = (
            settings.latency_s.get(operation, settings.first_byte_s)
            + settings.list_per_1000_rows_s * rows / 1000
            + settings.compose_per_source_s * sources
            + settings.batch_per_call_s * calls
        )
        if latency_s and settings.jitter:
            latency_s *= 1 + settings.jitter * (2 * self._random.random() - 1)
        return latency_s

    def transfer_s(self, byte_count: int) -> float:
        """Return how long so many bytes take on one connection."""
        bytes_per_s = self._settings.bytes_per_s
        return byte_count / bytes_per_s if bytes_per_s else 0.0

    def piece_bytes(self, most: int) -> int:
        """Return in what pieces a body is sent: about `_PIECE_S` each, so that a slow body flows and does not jump."""
        bytes_per_s = self._settings.bytes_per_s
        return most if bytes_per_s is None else max(1, min(most, int(bytes_per_s * _PIECE_S)))
