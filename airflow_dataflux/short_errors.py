"""An error of the core in one line that a window shows whole: which object, why, and what to do.

The error's own message says more. It is in the log, too, but a traceback stands between it and the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from airflow_dataflux.core import errors

LINE_CHARACTERS = 100
"""What the log of a task shows of a line in a window of 1,400 pixels; the rest is wrapped."""


class _Short(NamedTuple):
    why: str
    remedy: str


_SHORT: Mapping[type[errors.DatafluxError], _Short] = {
    errors.CancelledError: _Short("the work was cancelled", "Nothing incomplete was published."),
    errors.AuthenticationError: _Short("no usable credentials", "Check the connection and its account."),
    errors.BucketNotFoundError: _Short("no such bucket", "Check its name and the credentials."),
    errors.ObjectNotFoundError: _Short("no such object", "List again."),
    errors.PreconditionFailedError: _Short("the object has changed, or exists", "List again."),
    errors.UnavailableError: _Short("no usable answer after all tries", "Run again."),
    errors.ThrottledError: _Short("too many requests", "Run again later, or send fewer at a time."),
    errors.EmptyListingError: _Short("no object found", "Correct prefix and filters, or set on_empty."),
    errors.IncompleteListingError: _Short("the listing is not complete", "Run it again."),
    errors.ManifestTooLargeError: _Short("too large for XCom", "Set manifest_uri."),
    errors.ManifestNotFoundError: _Short("no manifest", "Check the URI, and that its listing succeeded."),
    errors.ManifestChangedError: _Short("the manifest was replaced", "Give each run a manifest_uri of its own."),
    errors.ManifestConflictError: _Short("another task wrote there", "Give each listing its own manifest_uri."),
    errors.DestinationBusyError: _Short("another staging is at work", "Run again when it has ended."),
    errors.InsufficientSpaceError: _Short("too little free space", "Make room, or choose another place."),
    errors.UnsafeNameError: _Short("names that cannot be paths", 'Set on_unsafe_name="skip", or exclude_glob.'),
    errors.DeletionRefusedError: _Short("all files would be removed", "Correct prefix and filters of the listing."),
    errors.ObjectsChangedError: _Short("changed since the listing", 'List again, or set on_changed_object="skip".'),
    errors.UnreadableObjectsError: _Short("cannot be read", "Check storage.objects.get and the encryption key."),
    errors.CostLimitError: _Short("it would cost more than max_usd", "Raise max_usd, or take fewer objects."),
    errors.VerificationError: _Short("the bytes arrived wrong", "Run again."),
}
"""The kinds of errors that always say the same. All others are told in their own words."""

_WHERE = ("resource", "uri", "path", "destination")
_PLACE = re.compile(r"(?<![\w/])(?:\w+:/)?/[\w.~/][^\s,;'\"]*")
_PERMISSION = re.compile(r"\b(?:storage|serviceusage)\.\w+\.\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z])")


def short_line(error: errors.DatafluxError) -> str:
    """Return one line of at most `LINE_CHARACTERS`. What has no room is left out in the middle of a name."""
    short = _SHORT.get(type(error))
    if isinstance(error, errors.PermissionDeniedError) and (missing := _PERMISSION.search(error.message)):
        short = _Short(f"{missing[0]} is missing", "Grant it to the account of the task.")
    if short is None:
        return _own_words(error.message)
    told = f": {short.why}. {short.remedy}"
    return _fitted(_place(error), LINE_CHARACTERS - len(told)) + told


def _place(error: errors.DatafluxError) -> str:
    """Return the object that an error is about, by its details or else its message; its kind if neither names one."""
    for key in _WHERE:
        value = error.details.get(key)
        if isinstance(value, str) and value:
            return " ".join(value.split())
    found = _PLACE.search(error.message)
    return found[0].rstrip(".:)") if found else type(error).__name__


def _own_words(message: str) -> str:
    """Return the first and the last sentence, which say what is wrong and what to do."""
    words = " ".join(message.split())
    if len(words) <= LINE_CHARACTERS:
        return words
    sentences = _SENTENCE_END.split(words)
    if len(sentences) == 1 or len(sentences[-1]) > LINE_CHARACTERS // 2:
        return _fitted(words, LINE_CHARACTERS)
    return f"{_fitted(sentences[0], LINE_CHARACTERS - len(sentences[-1]) - 1)} {sentences[-1]}"


def _fitted(text: str, room: int) -> str:
    """Return a text of at most `room` characters, with its beginning and its end."""
    if len(text) <= room:
        return text
    end = (room - 1) // 3
    return f"{text[: room - 1 - end]}…{text[len(text) - end :]}"
