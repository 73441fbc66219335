"""What each operation makes of each answer, as one table: tests are generated from it, and so is a page of the docs.

`python tests/integration/gcs/answer_table.py` prints docs/reference/answers.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["again", "later", "final", "done"]

MEANINGS: dict[Outcome, str] = {
    "again": "repeated, with growing pauses; if the answer stays, an error to which the task's `retries` apply",
    "later": "not repeated; an error to which the task's `retries` apply",
    "final": "an error that no retry can help, with advice for this case",
    "done": "a success",
}

OPERATIONS = ("list", "read", "stat", "bucket", "permissions", "upload", "compose", "delete", "batch")


def json_error(reason: str, message: str) -> bytes:
    return json.dumps({"error": {"message": message, "errors": [{"reason": reason, "message": message}]}}).encode()


@dataclass(frozen=True)
class Answer:
    """One answer of the service, or what came instead.

    `rule` scripts it on the embedded server; `outcome` holds for every operation that `others` does not name; `error`
    and `advice` are what an error is called and must say.
    """

    rule: dict[str, Any]
    outcome: Outcome
    error: str = ""
    advice: str = ""
    others: dict[str, tuple[Outcome, str, str]] = field(default_factory=dict)

    def of(self, operation: str) -> tuple[Outcome, str, str]:
        """Return outcome, error and advice for an operation."""
        if operation == "batch":
            return "done", "", ""  # one by one, if not as a batch
        return self.others.get(operation, (self.outcome, self.error, self.advice))


def status(number: int, body: bytes = b"", **headers: str) -> dict[str, Any]:
    return {"kind": "answer", "status": number, "body": body, "headers": headers}


HTML = b"<html><body>Access to this page is regulated.</body></html>"
UNREADABLE = "not what Cloud Storage documents"
RATE = "use fewer streams"
OUTAGE = "Run it again later"
PROXY = "a proxy or a firewall"
NO_BUCKET = ("final", "BucketNotFoundError", "bucket's name")

ANSWERS: dict[str, Answer] = {
    "200, other JSON": Answer(status(200, b'{"message": "maintenance"}'), "again", "UnavailableError", UNREADABLE),
    "200, a page of HTML": Answer(status(200, HTML), "again", "UnavailableError", UNREADABLE),
    "200, nothing": Answer(
        status(200), "again", "UnavailableError", UNREADABLE, {"delete": ("done", "", "")}
    ),
    "200, half of the JSON": Answer(
        status(200, b'{"kind": "storage#objects", "items": [{"na'), "again", "UnavailableError", UNREADABLE
    ),
    "302 to a login page": Answer(
        status(302, b"", Location="https://login.example/in?token=secret"), "final", "StoreError", "login.example/in"
    ),
    "400": Answer(status(400, json_error("invalid", "Invalid argument")), "final", "StoreError", "will not help"),
    "400, requester pays": Answer(
        status(400, json_error("required", "Bucket is a requester pays bucket but no user project provided.")),
        "final", "StoreError", "Set user_project",
    ),
    "400, page token": Answer(
        status(400, json_error("invalid", "Invalid pageToken")), "final", "StoreError", "will not help",
        {"list": ("later", "UnavailableError", "list again")},
    ),
    "401": Answer(
        status(401, json_error("authError", "Invalid Credentials")), "final", "AuthenticationError", "the credentials"
    ),
    "401, a proxy's HTML": Answer(status(401, HTML), "final", "AuthenticationError", PROXY),
    "403, permission": Answer(
        status(403, json_error("forbidden", "no access")), "final", "PermissionDeniedError", "Grant storage."
    ),
    "403, rate as JSON": Answer(
        status(403, json_error("rateLimitExceeded", "The project exceeded the rate limit")), "again", "ThrottledError",
        RATE,
    ),
    "403, rate as text": Answer(status(403, b"User Rate Limit Exceeded"), "again", "ThrottledError", RATE),
    "403, quotaExceeded": Answer(
        status(403, json_error("quotaExceeded", "Quota exceeded")), "later", "ThrottledError", "Quotas"
    ),
    "403, accountDisabled": Answer(
        status(403, json_error("accountDisabled", "The billing account is disabled")), "final",
        "PermissionDeniedError", "Enable billing",
    ),
    "403, vpcServiceControls": Answer(
        status(403, json_error("vpcServiceControls", "Request is prohibited by organization's policy")), "final",
        "PermissionDeniedError", "perimeter",
    ),
    "403, scopes": Answer(
        status(403, json_error("insufficientPermissions", "insufficient authentication scopes")), "final",
        "PermissionDeniedError", "scope",
    ),
    "403, a proxy's HTML": Answer(status(403, HTML), "final", "PermissionDeniedError", PROXY),
    "404": Answer(
        status(404, json_error("notFound", "Not Found")), "final", "ObjectNotFoundError", "list again",
        {
            **dict.fromkeys(("list", "bucket", "permissions", "upload"), NO_BUCKET),
            "delete": ("done", "", ""),
        },
    ),
    "404, no bucket": Answer(
        status(404, json_error("notFound", "The specified bucket does not exist.")), *NO_BUCKET
    ),
    "404, a proxy's HTML": Answer(status(404, HTML), "final", "StoreError", PROXY),
    "405": Answer(status(405), "final", "StoreError", "does not offer"),
    "408": Answer(status(408), "again", "UnavailableError", OUTAGE),
    "409": Answer(status(409, json_error("conflict", "Conflict")), "again", "UnavailableError", "run it again"),
    "410": Answer(
        status(410, json_error("gone", "Gone")), "final", "StoreError", "will not help",
        {"list": ("later", "UnavailableError", "list again")},
    ),
    "411": Answer(status(411), "final", "StoreError", "a proxy that limits"),
    "412": Answer(
        status(412, json_error("conditionNotMet", "no")), "final", "PreconditionFailedError", "list again"
    ),
    "413": Answer(status(413, HTML), "final", "StoreError", "a proxy that limits"),
    "416": Answer(status(416), "final", "StoreError", "fewer bytes"),
    "429": Answer(status(429, json_error("rateLimitExceeded", "slow down")), "again", "ThrottledError", RATE),
    "429, HTML": Answer(status(429, HTML), "again", "ThrottledError", RATE),
    "499": Answer(status(499), "again", "UnavailableError", OUTAGE),
    "500": Answer(status(500, HTML), "again", "UnavailableError", OUTAGE),
    "501": Answer(status(501), "final", "StoreError", "does not offer"),
    "502": Answer(status(502), "again", "UnavailableError", OUTAGE),
    "503": Answer(status(503, json_error("backendError", "x")), "again", "UnavailableError", OUTAGE),
    "503, Retry-After: soon": Answer(
        status(503, b"", **{"Retry-After": "soon"}), "again", "UnavailableError", OUTAGE
    ),
    "503, Retry-After: 3600": Answer(
        status(503, b"", **{"Retry-After": "3600"}), "later", "UnavailableError", "3600 s (Retry-After)"
    ),
    "504": Answer(status(504, HTML), "again", "UnavailableError", OUTAGE),
    "reset before the work": Answer({"kind": "reset"}, "again", "UnavailableError", "Check the network"),
    "reset after the work": Answer(
        {"kind": "lose_answer"}, "again", "UnavailableError", "Check the network",
        dict.fromkeys(("upload", "compose", "delete"), ("done", "", "")),
    ),
    "silence": Answer({"kind": "stall", "stall_s": 30}, "again", "UnavailableError", "Check the network"),
    "a body that trickles": Answer(
        {"kind": "trickle", "stall_s": 0.2, "after_bytes": 1}, "again", "UnavailableError", "",
        {"delete": ("done", "", "")},
    ),
}  # fmt: skip

HEAD = """# How each answer of the service is handled

Generated from `tests/integration/gcs/answer_table.py`. A test checks each cell, with an answer that comes once and with
one that is repeated without end.

"""

TAIL = """
None of these answers leads to a loss of data. An object exists completely or not at all, and every deletion names one
generation.

A request for an access token has two outcomes (`tests/unit/core/gcs/test_gcs_auth.py`):

| answer | outcome |
|---|---|
| no connection, silence, 408, 429, 499, 5xx, a page, not a token | again, for some seconds; then a task retry |
| any other refusal | final |

Every request ends in a limited time: 120 s of repetitions, 60 s without an answer. A cancel ends it at once.

- If a batch of deletions is refused as a whole, each object is deleted by its own request.
- If an object cannot be composed, for any reason, the staging reads it directly. After three refusals of the same
  kind, it composes nothing more.
- If the settings or permissions of a bucket cannot be read (401, 403, 404, 405, 501), the staging finds out by trying
  what it may do.
- An answer that is not from Cloud Storage (`200` with other JSON or HTML) is never read as a listing. Each page must
  have the kind `storage#objects`.
"""


def page() -> str:
    """Return the page of the documentation."""
    lines = [HEAD, "| cell | meaning |\n|---|---|\n"]
    lines += [f"| {outcome} | {meaning} |\n" for outcome, meaning in MEANINGS.items()]
    lines.append("\n| answer | " + " | ".join(OPERATIONS) + " |\n|---" + "|---" * len(OPERATIONS) + "|\n")
    for name, answer in ANSWERS.items():
        lines.append(f"| {name} | " + " | ".join(answer.of(operation)[0] for operation in OPERATIONS) + " |\n")
    return "".join([*lines, TAIL])


if __name__ == "__main__":
    print(page(), end="")
