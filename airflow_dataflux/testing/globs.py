"""`matchGlob` patterns (https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob).

`*` matches within one directory, `**` across them, `?` one character, `[abc]` and `[!abc]` sets, `{a,b}` alternatives.
"""

from __future__ import annotations

import re
from functools import lru_cache

from airflow_dataflux.testing.refusals import invalid


@lru_cache(maxsize=256)
def glob_pattern(glob: str) -> re.Pattern[str]:
    """Return a pattern whose fullmatch is the glob's. Raises Refusal (400) if the glob is malformed."""
    out: list[str] = []
    depth, position = 0, 0
    while position < len(glob):
        character = glob[position]
        if glob.startswith("**", position):
            # `a/**/b` also matches `a/b`.
            if glob.startswith("**/", position) and (position == 0 or glob[position - 1] == "/"):
                out.append("(?:.*/)?")
                position += 3
            else:
                out.append(".*")
                position += 2
            continue
        if character == "*":
            out.append("[^/]*")
        elif character == "?":
            out.append("[^/]")
        elif character == "[":
            end = glob.find("]", position + 2)
            if end < 0:
                raise invalid(f"Invalid glob {glob!r}: '[' without ']'.", reason="invalidParameter")
            inner = glob[position + 1 : end]
            negated = inner[0] in "!^"
            body = (inner[1:] if negated else inner).replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            out.append(f"[^/{body}]" if negated else f"[{body}]")
            position = end
        elif character == "{":
            depth += 1
            out.append("(?:")
        elif character == "}" and depth:
            depth -= 1
            out.append(")")
        elif character == "," and depth:
            out.append("|")
        elif character == "\\" and position + 1 < len(glob):
            position += 1
            out.append(re.escape(glob[position]))
        else:
            out.append(re.escape(character))
        position += 1
    if depth:
        raise invalid(f"Invalid glob {glob!r}: '{{' without '}}'.", reason="invalidParameter")
    try:
        return re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise invalid(f"Invalid glob {glob!r}: {error}.", reason="invalidParameter") from error
