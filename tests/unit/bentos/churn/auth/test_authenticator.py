"""The judgement on a request's key, in process, with the real file."""

import base64
import inspect
import os
from datetime import UTC, datetime, timedelta

import pytest

from bentos.churn.auth import authenticator as module
from bentos.churn.auth.audit_log import audit_path
from bentos.churn.auth.authenticator import (
    ApiKeyAuthenticator,
    KeysNeededError,
    describe_access,
    exit_unless_startable,
    is_loopback,
    keys_needed,
)
from bentos.churn.auth.key_admin import create_key, revoke_key
from bentos.churn.auth.key_store import KeyFileError, keys_path
from bentos.churn.errors import KeyForbiddenError, KeyMissingError, RateLimitedError
from bentos.churn.metrics import ServiceMetrics

HERE, ELSEWHERE = "127.0.0.1", "10.0.0.5"
TODAY = datetime.now(UTC)


def changed(settings, **sections):
    """The settings with other values: section -> {name: value}."""
    return settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=values) for name, values in sections.items()}
    )


def bearer(key):
    return {b"authorization": b"Bearer " + key.encode()}


@pytest.fixture
def limited(settings):
    return changed(settings, access={"requests_per_s": 1.0, "burst": 3})


def test_without_keys_this_machine_is_answered_and_no_other(settings):
    access = ApiKeyAuthenticator(settings, ServiceMetrics())
    access.authorize({}, "predict", HERE, 0.0)
    access.authorize({}, "predict", "::1", 0.0)
    access.authorize({}, "predict", None, 0.0)  # a socket of the file system
    for address in (ELSEWHERE, "0.0.0.0", "churn.example"):  # noqa: S104 - an address, not bound
        with pytest.raises(KeyMissingError):
            access.authorize({}, None, address, 0.0)


@pytest.mark.parametrize("closed", [{"access": {"required": True}}, {"serving": {"host": ELSEWHERE}}])
def test_where_keys_are_needed_nobody_passes_without_one(settings, closed):
    access = ApiKeyAuthenticator(changed(settings, **closed), ServiceMetrics())
    with pytest.raises(KeyMissingError):
        access.authorize({}, None, HERE, 0.0)


def test_the_first_key_closes_the_door_and_it_stays_closed(settings):
    access = ApiKeyAuthenticator(settings, ServiceMetrics())
    access.authorize({}, None, HERE, 0.0)
    entry, key = create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    access.authorize({}, None, HERE, 0.5)  # looked at once a second
    with pytest.raises(KeyMissingError):
        access.authorize({}, None, HERE, 1.0)
    access.authorize(bearer(key), "predict", HERE, 1.0)
    revoke_key(settings, entry.id, now=TODAY, who="tests")
    for headers in ({}, bearer(key)):
        with pytest.raises(KeyMissingError):
            access.authorize(headers, None, HERE, 2.0)


@pytest.mark.parametrize(
    "send",
    [
        lambda key: {b"authorization": b"Bearer " + key},
        lambda key: {b"authorization": b"bEARER   " + key},
        lambda key: {b"x-api-key": b" " + key},
        lambda key: {b"authorization": b"Basic " + base64.b64encode(b"anybody:" + key)},
        lambda key: {b"authorization": b"basic " + base64.b64encode(b":" + key)},
        # A gateway's own credentials don't get in the way.
        lambda key: {b"authorization": b"Bearer of-the-gateway", b"x-api-key": key},
    ],
)
def test_a_key_is_taken_from_where_it_stands(settings, send):
    _, key = create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    access = ApiKeyAuthenticator(settings, ServiceMetrics())
    access.authorize(send(key.encode()), "predict", ELSEWHERE, 0.0)
    access.authorize(send(key.encode()), None, ELSEWHERE, 0.0)
    with pytest.raises(KeyForbiddenError) as refused:
        access.authorize(send(key.encode()), "metrics", ELSEWHERE, 0.0)
    assert refused.value.http_status == 403


def test_each_failure_is_counted_and_told_by_its_reason_and_holds_no_key(settings, caplog):
    _, good = create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    _, old = create_key(settings, "crm", ["predict"], now=TODAY - timedelta(days=2), days=1, who="tests")
    entry, gone = create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    revoke_key(settings, entry.id, now=TODAY, who="tests")
    metrics = ServiceMetrics()
    access = ApiKeyAuthenticator(settings, metrics)
    other = good[:-1] + ("A" if good[-1] != "A" else "B")
    for headers, reason in (
        ({}, "missing"),
        ({b"authorization": b"Digest username=somebody"}, "missing"),
        ({b"authorization": b"Basic a"}, "unknown"),
        ({b"x-api-key": b""}, "unknown"),
        (bearer(other), "unknown"),
        (bearer(good + "A"), "unknown"),
        (bearer("churn_00000000" + good[14:]), "unknown"),
        (bearer(old), "expired"),
        (bearer(gone), "revoked"),
        # Who does not know the secret is not told that the key was revoked.
        (bearer(gone[:-1] + ("A" if gone[-1] != "A" else "B")), "unknown"),
    ):
        before = metrics.key_failures.labels(reason)._value.get()
        with pytest.raises(KeyMissingError) as refused:
            access.authorize(headers, "predict", HERE, 0.0)
        assert (refused.value.error, refused.value.http_status) == ("key_invalid", 401)
        assert metrics.key_failures.labels(reason)._value.get() == before + 1
        assert ("revoked" in refused.value.message) == (reason == "revoked")
    told = [record.getMessage() for record in caplog.records]
    assert told == list(dict.fromkeys(told))
    assert f"refused a request: key {entry.id}, revoked" in told
    assert not any(key[-43:] in caplog.text for key in (good, old, gone, other))


def test_who_keeps_the_audit_is_told_of_each_failure_and_whose_key_it_was(settings):
    entry, key = create_key(settings, "crm", ["predict"], now=TODAY, days=1, who="tests")
    told = []
    access = ApiKeyAuthenticator(settings, ServiceMetrics(), lambda why, whose: told.append((why, whose and whose.id)))
    access.authorize(bearer(key), "predict", HERE, 0.0)
    for headers, right in (({}, None), (bearer(key[:-1]), None), (bearer(key), "metrics")):
        with pytest.raises((KeyMissingError, KeyForbiddenError)):
            access.authorize(headers, right, HERE, 0.1)
    access.refresh(TODAY + timedelta(days=2))
    with pytest.raises(KeyMissingError):
        access.authorize(bearer(key), "predict", HERE, 0.2)
    assert told == [("missing", None), ("unknown", None), ("forbidden", entry.id), ("expired", entry.id)]


def test_a_key_expires_while_the_service_runs(settings):
    _, key = create_key(settings, "crm", ["predict"], now=TODAY, days=1, who="tests")
    access = ApiKeyAuthenticator(settings, ServiceMetrics())
    access.authorize(bearer(key), None, HERE, 0.0)
    access.refresh(TODAY + timedelta(days=1))
    with pytest.raises(KeyMissingError, match="expired"):
        access.authorize(bearer(key), None, HERE, 0.5)


def test_the_work_is_the_same_for_a_known_id_and_an_unknown_one():
    source = inspect.getsource(ApiKeyAuthenticator._holder)
    assert source.count("compare_digest(") == source.count("sha256(") == 1
    assert "==" not in source
    # One digest and one comparison on the only way through: nothing returns before, nothing is skipped.
    assert source.count("return ") == 1
    assert bytes(32) == module._NOBODY


def test_each_key_has_its_own_limit_and_failures_share_one(limited):
    _, one = create_key(limited, "one", ["predict"], now=TODAY, who="tests")
    _, other = create_key(limited, "other", ["predict"], now=TODAY, who="tests")
    access = ApiKeyAuthenticator(limited, ServiceMetrics())
    for _ in range(3):
        access.authorize(bearer(one), "predict", HERE, 0.0)
    with pytest.raises(RateLimitedError) as refused:
        access.authorize(bearer(one), "predict", HERE, 0.0)
    assert (refused.value.http_status, refused.value.retry_after_s) == (429, 1)
    access.authorize(bearer(other), "predict", HERE, 0.0)
    for _ in range(3):
        with pytest.raises(KeyMissingError):
            access.authorize({}, None, HERE, 0.0)
    with pytest.raises(RateLimitedError):
        access.authorize(bearer("churn_"), None, HERE, 0.0)
    access.authorize(bearer(one), "predict", HERE, 1.0)


def test_a_change_of_the_file_gives_nobody_a_new_bucket(limited):
    _, key = create_key(limited, "one", ["predict"], now=TODAY, who="tests")
    access = ApiKeyAuthenticator(limited, ServiceMetrics())
    for _ in range(3):
        access.authorize(bearer(key), None, HERE, 0.0)
    create_key(limited, "other", ["predict"], now=TODAY, who="tests")
    access.refresh(TODAY)
    with pytest.raises(RateLimitedError):
        access.authorize(bearer(key), None, HERE, 0.0)


def test_workers_share_what_a_key_may(limited):
    access = ApiKeyAuthenticator(changed(limited, serving={"workers": 3}), ServiceMetrics())
    access.authorize({}, None, HERE, 0.0)
    with pytest.raises(RateLimitedError) as refused:
        access.authorize({}, None, HERE, 0.0)
    assert refused.value.retry_after_s == 3


def test_zero_is_no_limit(limited):
    access = ApiKeyAuthenticator(changed(limited, access={"requests_per_s": 0.0}), ServiceMetrics())
    for _ in range(1000):
        access.authorize({}, None, HERE, 0.0)


def test_a_spoilt_file_changes_nothing(settings, caplog):
    _, key = create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    path = keys_path(settings)
    good = path.read_bytes()
    access = ApiKeyAuthenticator(settings, ServiceMetrics())
    access.authorize(bearer(key), None, HERE, 0.0)
    for spoil, says in (
        (lambda: path.write_bytes(good[:-9]), "is damaged"),
        (path.unlink, "is gone"),
        (path.mkdir, "can't be read"),
    ):
        caplog.clear()
        spoil()
        for _ in range(3):
            access.refresh(TODAY)
        access.authorize(bearer(key), None, HERE, 0.0)
        with pytest.raises(KeyMissingError):
            access.authorize({}, None, HERE, 0.0)
        assert caplog.text.count("API keys stay as they were") == 1
        assert says in caplog.text
    path.rmdir()
    path.write_bytes(good)
    _, new = create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    access.refresh(TODAY)
    access.authorize(bearer(new), None, HERE, 0.0)


def test_a_worker_that_starts_on_a_spoilt_file_lets_nobody_in_until_it_is_mended(settings):
    keys_path(settings).parent.mkdir(parents=True)
    keys_path(settings).write_bytes(b"{")
    access = ApiKeyAuthenticator(settings, ServiceMetrics())
    with pytest.raises(KeyMissingError):
        access.authorize({}, None, HERE, 0.0)
    keys_path(settings).unlink()
    _, key = create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    access.authorize(bearer(key), None, HERE, 1.0)


EMPTY = b'{"version": 1, "keys": []}'


def fifo(path):
    path.unlink()
    os.mkfifo(path)


LOST = {
    "emptied": lambda path: path.write_bytes(EMPTY),
    "deleted": lambda path: path.unlink(),
    "torn": lambda path: path.write_bytes(b'{"version": 1, "ke'),
    "a FIFO": fifo,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("lost", LOST)
def test_a_service_that_had_keys_is_never_open_again(settings, lost):
    create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    running = ApiKeyAuthenticator(settings, ServiceMetrics())
    with pytest.raises(KeyMissingError):
        running.authorize({}, None, HERE, 0.0)
    LOST[lost](keys_path(settings))
    # One that runs, one that a master starts anew, and the start of a service.
    for access in (running, ApiKeyAuthenticator(settings, ServiceMetrics())):
        for second in range(3):
            with pytest.raises(KeyMissingError):
                access.authorize({}, None, HERE, 10.0 + second)
    with pytest.raises((KeysNeededError, KeyFileError)) as refused:
        describe_access(settings, TODAY)
    assert refused.value.exit_code == 2
    assert "restore" in refused.value.hint


def test_an_emptied_list_ends_its_keys_and_opens_nothing(settings):
    _, key = create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    access = ApiKeyAuthenticator(settings, ServiceMetrics())
    access.authorize(bearer(key), None, HERE, 0.0)
    keys_path(settings).write_bytes(EMPTY)
    for headers in ({}, bearer(key)):
        with pytest.raises(KeyMissingError):
            access.authorize(headers, None, HERE, 2.0)
    assert keys_needed(settings)


def test_an_empty_list_without_an_audit_beside_it_opens_nothing(settings):
    # As a mounted file: the folder that it lies in has no audit.
    settings.home.mkdir()
    keys_path(settings).write_bytes(EMPTY)
    assert keys_needed(settings)
    with pytest.raises(KeysNeededError) as refused:
        describe_access(settings, TODAY)
    assert "move the key file" in refused.value.hint
    access = ApiKeyAuthenticator(settings, ServiceMetrics())
    keys_path(settings).unlink()
    for second in range(2):
        access.authorize({}, None, HERE, float(second))  # there is none yet
    keys_path(settings).write_bytes(EMPTY)
    for each in (access, ApiKeyAuthenticator(settings, ServiceMetrics())):
        with pytest.raises(KeyMissingError):
            each.authorize({}, None, HERE, 10.0)


def test_a_home_answers_without_keys_again_where_the_audit_was_set_aside(settings):
    create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    keys_path(settings).unlink()
    with pytest.raises(KeysNeededError, match="there were API keys before") as refused:
        describe_access(settings, TODAY)
    assert "move the key file and audit/ next to it away" in refused.value.hint
    audit_path(settings).parent.rename(settings.home / "set-aside")
    assert describe_access(settings, TODAY).startswith("no API keys")
    ApiKeyAuthenticator(settings, ServiceMetrics()).authorize({}, None, HERE, 0.0)


def test_what_is_said_at_the_start(settings, caplog):
    assert describe_access(settings, TODAY) == "no API keys: every caller who reaches 127.0.0.1 gets answers"
    _, _ = create_key(settings, "crm", ["predict"], now=TODAY, days=1, who="tests")
    create_key(settings, "crm", ["predict"], now=TODAY, who="tests")
    assert describe_access(settings, TODAY) == "only callers with an API key may ask; 2 valid"
    exit_unless_startable(settings)
    assert "2 valid" in caplog.text
    assert describe_access(changed(settings, serving={"host": ELSEWHERE}), TODAY + timedelta(days=2)).endswith(
        "1 valid"
    )


@pytest.mark.parametrize(
    ("closed", "why"),
    [
        ({"access": {"required": True}}, "access.required is set"),
        ({"serving": {"host": ELSEWHERE}}, "it listens on 10.0.0.5"),
    ],
)
def test_it_does_not_start_without_a_key_that_is_needed(settings, capsys, closed, why):
    settings = changed(settings, **closed)
    with pytest.raises(KeysNeededError, match=why):
        describe_access(settings, TODAY)
    create_key(settings, "crm", ["predict"], now=TODAY - timedelta(days=2), days=1, who="tests")
    with pytest.raises(SystemExit) as ended:
        exit_unless_startable(settings)
    assert ended.value.code == 2
    assert "hint: run: churn keys create" in capsys.readouterr().err
    keys_path(settings).write_bytes(b"{")
    with pytest.raises(KeyFileError):
        describe_access(settings, TODAY)


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - an address, not bound
        ("::", False),
        ("10.0.0.5", False),
        ("churn.example", False),
        ("", False),
    ],
)
def test_what_is_this_machine(host, near):
    assert is_loopback(host) == near
