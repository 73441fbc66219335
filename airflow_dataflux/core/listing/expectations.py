"""What a listing should find: warnings about requests that are probably mistakes, and what an empty result means.

A name may hold any character, so nothing here is refused for how it looks. Guarantee: `check_result` is called before
anything is published, and what it raises leaves an earlier manifest as it was.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_dataflux.core.config import ListRequest
from airflow_dataflux.core.errors import EmptyListingError, SkippedError
from airflow_dataflux.core.model import object_uri

if TYPE_CHECKING:
    from airflow_dataflux.core.manifest.index import Index

_logger = logging.getLogger(__name__)

_MOST_ALTERNATIVES = 64
"""Alternatives of a glob's braces that are looked at; a glob with more is taken as one that can match."""


def warn_of_mistakes(request: ListRequest) -> None:
    """Log a warning for each sign that the request does not ask for what its author meant."""
    for sign in signs_of_mistakes(request):
        _logger.warning("The listing of gs://%s is probably a mistake: %s", request.bucket, sign)


def shown(request: ListRequest) -> str:
    """Return what is listed, as logs name it."""
    named = [f"gs://{request.bucket}/{prefix}" for prefix in request.prefixes[:3]]
    more = len(request.prefixes) - len(named)
    return ", ".join(named) + (f" and {more} more prefixes" if more else "")


def check_result(request: ListRequest, index: Index) -> None:
    """Warn if nothing was found. Raise EmptyListingError or SkippedError if the request wants no such result."""
    if index.object_count == 0:
        message = _why_empty(request, index)
        if request.on_empty == "fail":
            raise EmptyListingError(
                f'{message} Nothing was published, because on_empty is "fail". Correct the request, or set '
                'on_empty="continue" if an empty listing is right.'
            )
        _logger.warning("%s", message)
        if request.on_empty == "skip":
            raise SkippedError(
                f'{message} Nothing was published, because on_empty is "skip".', object_count=0, total_bytes=0
            )
    if request.unchanged_fingerprint is not None and index.fingerprint == request.unchanged_fingerprint:
        raise SkippedError(
            f"Nothing changed since the earlier manifest ({index.fingerprint}). Nothing was published, because "
            'on_unchanged is "skip".',
            object_count=index.object_count,
            total_bytes=index.total_bytes,
        )


def signs_of_mistakes(request: ListRequest) -> Iterator[str]:
    """Yield a sentence for each sign: a prefix or a glob that no usual name begins with, or that excludes the other."""
    for prefix in request.prefixes:
        yield from _doubtful_start(f"prefix {prefix!r}", prefix, request.bucket)
        if "*" in prefix:
            yield f"prefix {prefix!r} holds a '*', which has no special meaning there: patterns go into match_glob."
    glob = request.filters.match_glob
    if glob is not None:
        yield from _doubtful_start(f"match_glob {glob!r}", glob, request.bucket)
        if not any(can_match(glob, prefix) for prefix in request.prefixes):
            which = " or ".join(repr(prefix) for prefix in request.prefixes[:3])
            yield (
                f"match_glob {glob!r} matches no name that begins with {which}. It is compared with the whole name, "
                f"and '*' does not match '/': try {f'{request.prefixes[0]}**'!r}."
            )


def can_match(glob: str, prefix: str) -> bool:
    """Return whether a glob of Cloud Storage may match a name that begins with `prefix`; True if it is not certain."""
    alternatives = _alternatives(glob)
    return not alternatives or any(_reaches(_PARTS.findall(each), prefix) for each in alternatives)


def _doubtful_start(what: str, text: str, bucket: str) -> Iterator[str]:
    if text.startswith(("gs://", "gcs://")):
        own = re.match(rf"gc?s://{re.escape(bucket)}/", text)
        meant = text[own.end() :] if own else text.partition("://")[2].partition("/")[2]
        yield f"{what} begins with a scheme, but names in a bucket do not: {meant!r} may be meant."
    elif text.startswith("/"):
        yield f"{what} begins with '/', but names in a bucket seldom do: {text.lstrip('/')!r} may be meant."
    if "{{" in text:
        yield f"{what} looks like a template that was not rendered."


def _why_empty(request: ListRequest, index: Index) -> str:
    where = " or ".join(object_uri(request.bucket, prefix) for prefix in request.prefixes[:3])
    dropped = {name: count for name, count in index.stats.get("dropped", {}).items() if count}
    if dropped:
        listed = ", ".join(f"{count:,} by {name}" for name, count in dropped.items())
        count = sum(dropped.values())
        reason = (
            f"{'The only object there was' if count == 1 else f'All {count:,} objects there were'} left out: {listed}."
        )
    else:
        matching = "" if request.filters.match_glob is None else f" and matches {request.filters.match_glob!r}"
        begins = " or ".join(repr(prefix) for prefix in request.prefixes[:3])
        beginning = "There is no object" if request.prefixes == ("",) else f"No name begins with {begins}"
        reason = f"{beginning}{matching}. Names are compared character by character, in upper and lower case."
    if request.name_range is not None:
        reason += " Only one name range was listed, and a range may be empty."
    return " ".join(
        [f"The listing of {where} found nothing, which is probably a mistake.", reason, *signs_of_mistakes(request)]
    )


_PARTS = re.compile(r"\*\*/|\*\*|\*|\[[^\]]+\]|\\.|.", re.DOTALL)


def _reaches(parts: list[str], prefix: str) -> bool:
    """Return whether the parts of a glob can match every character of `prefix`, and something behind them perhaps."""
    states = _with_skips({0}, parts)
    for character in prefix:
        following = set()
        for state in states:
            if state == len(parts):
                continue
            if parts[state].startswith("**") or (parts[state] == "*" and character != "/"):
                following.add(state)
            if _takes(parts[state], character):
                following.add(state + 1)
        states = _with_skips(following, parts)
    return bool(states)


def _takes(part: str, character: str) -> bool:
    """Return whether one part may match exactly this character. A set in brackets may match any."""
    if part == "**/":
        return character == "/"
    return part == "?" or (part.startswith("[") and len(part) > 1) or (part[0] != "*" and part[-1] == character)


def _with_skips(states: set[int], parts: list[str]) -> set[int]:
    """Add the states that are reached by matching nothing."""
    reached = set(states)
    for state in states:
        for behind in range(state, len(parts)):
            if not parts[behind].startswith("*"):
                break
            reached.add(behind + 1)
    return reached


def _alternatives(glob: str) -> list[str]:
    """Return the glob without braces, once for each combination; nothing if there are too many, or none is closed."""
    waiting, done = [glob], []
    while waiting:
        text = waiting.pop()
        braces = re.search(r"(?<!\\)\{([^{}]*)\}", text)
        if braces is None:
            done.append(text)
        else:
            waiting += [f"{text[: braces.start()]}{each}{text[braces.end() :]}" for each in braces[1].split(",")]
        if len(waiting) + len(done) > _MOST_ALTERNATIVES:
            return []
    return [] if any("{" in text for text in done) else done
