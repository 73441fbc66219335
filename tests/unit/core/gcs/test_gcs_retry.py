"""The retry policy, stall limits, hashes, batches and refusals: pure, so tested without a server."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core import errors
from airflow_dataflux.core.errors import CancelledError
from airflow_dataflux.core.gcs import operations
from airflow_dataflux.core.gcs.deletion import decode_batch_answer, encode_batch_request
from airflow_dataflux.core.gcs.hashes import crc32c_from_header, crc32c_from_text, crc32c_of, crc32c_to_text
from airflow_dataflux.core.gcs.http_errors import ErrorAnswer, connection_error, error_of, kind_of_failure, read_error
from airflow_dataflux.core.gcs.operations import Call
from airflow_dataflux.core.gcs.retry import Attempts, FailureKind, RetryPolicy, StallLimit, retry_after_s
from airflow_dataflux.core.runtime.cancel import CancelToken

POLICY = RetryPolicy(attempts=5, deadline_s=100, first_delay_s=1, max_delay_s=6)


def delay(attempts: Attempts, kind=FailureKind.UNCERTAIN, *, repeatable=True, lost=False, retry_after=None):
    return attempts.next_delay_s(kind, repeatable=repeatable, connection_lost=lost, retry_after_s=retry_after)


class TestPolicy:
    @pytest.mark.parametrize(
        ("status", "reason", "kind"),
        [
            (408, "", FailureKind.UNCERTAIN),
            (429, "", FailureKind.REFUSED),
            (403, "rateLimitExceeded", FailureKind.REFUSED),
            (403, "userRateLimitExceeded", FailureKind.REFUSED),
            (500, "", FailureKind.UNCERTAIN),
            (502, "", FailureKind.UNCERTAIN),
            (503, "", FailureKind.UNCERTAIN),
            (504, "", FailureKind.UNCERTAIN),
            (499, "", FailureKind.UNCERTAIN),
            (520, "", FailureKind.UNCERTAIN),
            (409, "conflict", FailureKind.REFUSED),
            (302, "", FailureKind.FINAL),
            (405, "", FailureKind.FINAL),
            (501, "", FailureKind.FINAL),
            (400, "", FailureKind.FINAL),
            (401, "", FailureKind.FINAL),
            (403, "forbidden", FailureKind.FINAL),
            (404, "", FailureKind.FINAL),
            (412, "", FailureKind.FINAL),
            (416, "", FailureKind.FINAL),
        ],
    )
    def test_each_status_has_its_kind(self, status, reason, kind):
        call = Call(operation=operations.READ, method="GET", target="/", resource="gs://b/o", repeatable=True)
        assert kind_of_failure(call, ErrorAnswer(status=status, reason=reason, message="")) is kind

    def test_what_may_have_been_carried_out_is_repeated_only_if_that_is_safe(self):
        assert delay(Attempts(POLICY), repeatable=True) is not None
        assert delay(Attempts(POLICY), repeatable=False) is None
        assert delay(Attempts(POLICY), FailureKind.REFUSED, repeatable=False) is not None
        assert delay(Attempts(POLICY), FailureKind.FINAL) is None

    def test_bounds_double_up_to_the_largest_and_delays_use_their_whole_width(self):
        for count, bound_s in [(1, 1), (2, 2), (3, 4), (4, 6)]:
            attempts = Attempts(POLICY)
            attempts.count = count
            drawn = [delay(attempts) for _ in range(400)]
            assert all(0 <= value <= bound_s for value in drawn)
            assert min(drawn) < 0.1 * bound_s
            assert max(drawn) > 0.9 * bound_s

    def test_attempts_are_limited(self):
        attempts = Attempts(POLICY)
        attempts.count = 5
        assert delay(attempts) is None

    def test_no_attempt_begins_after_the_deadline(self):
        now = [0.0]
        attempts = Attempts(POLICY, clock=lambda: now[0])
        assert delay(attempts, retry_after=101) is None
        now[0] = 101.0
        assert delay(attempts) is None

    def test_a_server_that_asks_for_patience_gets_it(self):
        assert delay(Attempts(POLICY), retry_after=50) == 50

    def test_the_first_lost_connection_is_replaced_at_once_and_the_second_is_not(self):
        attempts = Attempts(POLICY)
        assert delay(attempts, lost=True) == 0
        attempts.wait(0, CancelToken())
        assert max(delay(attempts, lost=True) for _ in range(50)) > 0

    def test_a_cancelled_wait_is_an_error_and_no_attempt(self):
        attempts, cancel = Attempts(POLICY), CancelToken()
        cancel.cancel("stop")
        with pytest.raises(CancelledError):
            attempts.wait(3600, cancel)
        assert attempts.count == 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None), ("", None), ("7", 7.0), (" 7 ", 7.0), ("soon", None), ("-1", None),
        ("Tue, 01 Sep 2026 12:00:30 GMT", 30.0), ("Tue, 01 Sep 2026 11:00:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(header, expected):
    assert retry_after_s(header, now=datetime(2026, 9, 1, 12, tzinfo=UTC)) == expected


class TestStallLimit:
    def test_before_anything_was_seen_it_is_generous(self):
        assert StallLimit(least_s=2).limit_s(1) == 20

    def test_it_follows_the_slow_answers_and_not_the_usual_ones(self):
        limit = StallLimit(least_s=2)
        for number in range(320):
            limit.answered(1.0 if number % 10 == 0 else 0.05)
        assert limit.limit_s(1) == pytest.approx(8, abs=0.2)

    def test_it_never_falls_below_its_floor_nor_above_its_ceiling(self):
        fast, slow = StallLimit(least_s=2), StallLimit(least_s=2, most_s=60)
        for _ in range(64):
            fast.answered(0.01)
            slow.answered(50)
        assert (fast.limit_s(1), slow.limit_s(1)) == (2, 60)

    def test_each_attempt_is_given_twice_the_time(self):
        limit = StallLimit(least_s=2)
        for _ in range(64):
            limit.answered(0.01)
        assert [limit.limit_s(attempt) for attempt in (1, 2, 3, 10)] == [2, 4, 8, 60]


class TestHashes:
    @given(st.integers(0, (1 << 32) - 1))
    def test_text_and_number_are_the_same_crc32c(self, value):
        assert crc32c_from_text(crc32c_to_text(value)) == value

    @given(st.binary())
    def test_it_is_the_crc32c_of_the_data(self, data):
        assert crc32c_of(data) == google_crc32c.value(data)

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            (None, None), ("", None), ("md5=abc==", None), ("crc32c=AAAAAQ==", 1),
            ("crc32c=AAAAAQ==,md5=XUFAKrxLKna5cZ2REBfFkg==", 1),
            ("md5=XUFAKrxLKna5cZ2REBfFkg==, crc32c=AAAAAQ==", 1),
        ],
    )  # fmt: skip
    def test_a_header_may_hold_several_hashes(self, header, expected):
        assert crc32c_from_header(header) == expected

    @pytest.mark.parametrize("text", ["", "AAAA", "AAAAAAAA", "&AAAAA=="])
    def test_what_is_no_crc32c_is_an_error(self, text):
        with pytest.raises(ValueError, match=r"."):
            crc32c_from_text(text)


class TestBatches:
    def test_calls_are_numbered_and_separated(self):
        body = encode_batch_request("DELETE", ["/a?x=1", "/b"], boundary="BB").decode()
        assert body.count("--BB\r\n") == 2
        assert body.endswith("--BB--\r\n")
        assert body.index("<call+0>") < body.index("DELETE /a?x=1 HTTP/1.1\r\n\r\n") < body.index("<call+1>")

    ANSWER = (
        b"--batch_x\r\nContent-Type: application/http\r\nContent-ID: <response-call+1>\r\n\r\n"
        b'HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n\r\n{"error":{}}\r\n'
        b"--batch_x\r\nContent-Type: application/http\r\nContent-ID: <response-call+0>\r\n\r\n"
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n\r\n--batch_x--\r\n"
    )

    def test_answers_are_told_apart_by_their_number_and_not_by_their_order(self):
        answers = decode_batch_answer(self.ANSWER, 'multipart/mixed; boundary="batch_x"')
        assert {number: answer.status for number, answer in answers.items()} == {0: 204, 1: 404}
        assert answers[1].body == b'{"error":{}}'

    def test_an_answer_that_was_cut_off_is_missing_and_not_made_up(self):
        cut = self.ANSWER[: self.ANSWER.index(b"HTTP/1.1 204")]
        assert set(decode_batch_answer(cut, "multipart/mixed; boundary=batch_x")) == {1}

    def test_what_is_no_batch_is_an_error(self):
        with pytest.raises(ValueError, match="text/html"):
            decode_batch_answer(b"<html>", "text/html")


JSON = b'{"error":{"errors":[{"reason":"%s"}],"message":"%s"}}'


class TestRefusals:
    CALL = Call(operation=operations.READ, method="GET", target="/", resource="gs://b/o#5", repeatable=True)

    def error(self, status, message, reason="", call=CALL, attempts=1):
        refusal = ErrorAnswer(status=status, reason=reason, message=message)
        return error_of(call, refusal, attempts=attempts, elapsed_s=1)

    @pytest.mark.parametrize(
        ("status", "reason", "message", "kind", "advice"),
        [
            (401, "authError", "Invalid Credentials", errors.AuthenticationError, "credentials"),
            (403, "forbidden", "x does not have storage.objects.get access", errors.PermissionDeniedError,
             "Grant storage.objects.get "),
            (403, "forbidden", "no", errors.PermissionDeniedError, "Grant storage.objects.get "),
            (403, "retentionPolicyNotMet", "too young", errors.PermissionDeniedError, "retention policy"),
            (403, "forbidden", "x lacks serviceusage.services.use", errors.PermissionDeniedError, "user_project"),
            (403, "rateLimitExceeded", "slow down", errors.ThrottledError, "fewer streams"),
            (404, "notFound", "No such object: b/o", errors.ObjectNotFoundError, "list again"),
            (404, "notFound", "The specified bucket does not exist.", errors.BucketNotFoundError, "bucket's name"),
            (412, "conditionNotMet", "no", errors.PreconditionFailedError, "list again"),
            (429, "", "", errors.ThrottledError, "request rate"),
            (500, "", "", errors.UnavailableError, "later"),
            (503, "backendError", "", errors.UnavailableError, "later"),
            (400, "required", "Bucket is a requester pays bucket but no user project provided.", errors.StoreError,
             "Set user_project"),
            (416, "", "bad range", errors.StoreError, "bad range"),
        ],
    )  # fmt: skip
    def test_each_refusal_has_its_class_and_says_what_to_do(self, status, reason, message, kind, advice):
        error = self.error(status, message, reason)
        assert type(error) is kind
        assert "gs://b/o#5" in str(error)
        assert str(status) in str(error)
        assert advice in str(error)
        assert (error.status, error.operation, error.resource) == (status, "read", "gs://b/o#5")
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.details) == (kind, str(error), error.details)

    def test_a_refused_glob_is_named_as_the_cause_of_a_listing_that_failed(self):
        call = Call(operation=operations.LIST, method="GET", target="/", resource="gs://b/", repeatable=True)
        refused = self.error(400, "Invalid glob pattern '[a'", "invalid", call)
        assert type(refused) is errors.StoreError
        assert "Correct match_glob" in str(refused)
        assert "Correct match_glob" not in str(self.error(400, "Invalid glob pattern '[a'", "invalid"))

    @pytest.mark.parametrize(
        ("status", "body", "kind", "advice"),
        [
            (403, b"User Rate Limit Exceeded", errors.ThrottledError, "fewer streams"),
            (400, b"Rate limit exceeded. Retry later", errors.ThrottledError, "fewer streams"),
            (403, JSON % (b"quotaExceeded", b"Quota exceeded"), errors.ThrottledError, "Quotas"),
            (403, JSON % (b"accountDisabled", b"The billing account is disabled"), errors.PermissionDeniedError,
             "Enable billing"),
            (403, JSON % (b"vpcServiceControls", b"Request is prohibited by organization's policy"),
             errors.PermissionDeniedError, "perimeter"),
            (403, JSON % (b"insufficientPermissions", b"Request had insufficient authentication scopes"),
             errors.PermissionDeniedError, "scope"),
            (403, b"<html>blocked by policy</html>", errors.PermissionDeniedError, "proxy"),
            (401, b"<html>log in</html>", errors.AuthenticationError, "proxy"),
            (404, b"<html>no such page</html>", errors.StoreError, "proxy"),
            (404, b'{"detail":"Not Found"}', errors.StoreError, "emulator"),
            (412, b"<html>", errors.StoreError, "proxy"),
            (413, b"<html>too large</html>", errors.StoreError, "limits"),
            (501, JSON % (b"notImplemented", b"no"), errors.StoreError, "does not offer"),
            (405, b"", errors.StoreError, "does not offer"),
            (409, JSON % (b"conflict", b"x"), errors.UnavailableError, "again"),
            (418, b"", errors.StoreError, "not help"),
        ],
    )  # fmt: skip
    def test_advice_fits_its_cause(self, status, body, kind, advice):
        error = error_of(self.CALL, read_error(status, body), attempts=1, elapsed_s=0)
        assert type(error) is kind
        assert advice in str(error)
        assert ("Grant" in str(error)) is False

    @pytest.mark.parametrize(("status", "body"), [(410, b"gone"), (400, JSON % (b"invalid", b"Invalid pageToken"))])
    def test_a_cursor_that_is_not_accepted_any_more_is_worth_another_listing(self, status, body):
        call = Call(operation=operations.LIST, method="GET", target="/", resource="gs://b/", repeatable=True)
        assert type(error_of(call, read_error(status, body), attempts=1, elapsed_s=0)) is errors.UnavailableError

    def test_a_redirect_names_its_target_without_what_may_be_secret_in_it(self):
        answer = read_error(302, b"", location="https://me:pw@login.example/in?token=abc")
        message = str(error_of(self.CALL, answer, attempts=1, elapsed_s=0))
        assert "https://login.example/in" in message
        assert "pw" not in message
        assert "abc" not in message

    def test_a_pause_that_is_longer_than_a_request_is_repeated_is_told(self):
        answer = read_error(503, b"", retry_after_s=3600)
        message = str(error_of(self.CALL, answer, attempts=1, elapsed_s=0, deadline_s=120))
        assert "3600 s (Retry-After)" in message
        assert "120 s" in message

    def test_a_certificate_that_nobody_vouches_for_is_final_and_says_what_to_set(self):
        error = connection_error(
            self.CALL, "certificate verify failed", attempts=1, elapsed_s=0, final="Set SSL_CERT_FILE."
        )
        assert (type(error), error.retryable) == (errors.StoreError, False)
        assert str(error).endswith("Set SSL_CERT_FILE.")

    def test_no_message_has_the_password_of_an_address(self):
        error = connection_error(self.CALL, "no route to http://me:secret@proxy:3128/", attempts=1, elapsed_s=0)
        assert "secret" not in str(error)
        assert "secret" not in error.reason
        assert "http://proxy:3128/" in str(error)

    def test_attempts_are_told(self):
        assert "after 4 attempts" in str(self.error(503, "", attempts=4))

    def test_a_lost_call_that_is_not_repeatable_says_why_it_was_not_repeated(self):
        call = Call(operation=operations.UPLOAD, method="POST", target="/", resource="gs://b/o", repeatable=False)
        assert "may have been executed" in str(connection_error(call, "reset", attempts=1, elapsed_s=0))

    @pytest.mark.parametrize(
        ("body", "reason", "message"),
        [
            (b'{"error":{"code":404,"message":"gone","errors":[{"reason":"notFound","message":"gone"}]}}', "notFound",
             "gone"),
            (b'{"error":{"code":404,"message":"gone"}}', "", "gone"),
            (b"No such object: b/o", "", "No such object: b/o"),
            (b"", "", ""),
            (b"[]", "", "[]"),
            (b'{"error":{"message":null,"errors":[{"reason":null}]}}', "", ""),
            (b"two\nlines\x1b", "", "two lines\x1b"),
            (b'{"error":"invalid_grant"}', "", '{"error":"invalid_grant"}'),
            (b"\xff\xfe", "", "\ufffd\ufffd"),
            (b"x" * 5000, "", "x" * 600),
        ],
    )  # fmt: skip
    def test_any_body_can_be_read(self, body, reason, message):
        assert read_error(404, body) == ErrorAnswer(status=404, reason=reason, message=message)
