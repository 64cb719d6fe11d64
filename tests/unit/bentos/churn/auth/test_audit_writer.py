"""Refused keys become few entries, none is lost, and a disk that refuses holds nobody up."""

import threading
from datetime import UTC, datetime

import pytest

from bentos.churn.auth.audit_log import audit_path, read_entries
from bentos.churn.auth.audit_writer import AuditWriter
from bentos.churn.auth.key_store import new_key
from bentos.churn.metrics import ServiceMetrics
from tests.support.patience import until

KEY = new_key("crm", ("predict",), now=datetime.now(UTC), expires_at=None)[0]
OTHER = new_key("web", ("predict",), now=datetime.now(UTC), expires_at=None)[0]


@pytest.fixture
def metrics():
    return ServiceMetrics()


@pytest.fixture
def failures(settings, metrics):
    return AuditWriter(settings, metrics)


def told(settings):
    """(reason, key id, times) of each entry."""
    return [
        (event.refusals.reason, event.key_id, event.refusals.times)
        for event in read_entries(audit_path(settings))
        if event.action == "refused"
    ]


def counted(metrics, outcome):
    return metrics.key_audit.labels(outcome)._value.get()


@pytest.fixture(autouse=True)
def _home(settings):
    settings.home.mkdir()


def test_the_first_is_written_at_once_and_the_rest_once_a_minute(settings, failures, metrics):
    failures.write(0.0)
    assert not audit_path(settings).parent.exists()
    began = datetime.now(UTC).isoformat()
    failures.count("expired", KEY)
    failures.write(1.0)
    assert told(settings) == [("expired", KEY.id, 1)]
    for _ in range(1000):
        failures.count("expired", KEY)
    failures.count("forbidden", KEY)  # another reason: at once
    failures.count("unknown", None)
    for second in range(2, 61):
        failures.write(float(second))
    assert told(settings)[1:] == [("forbidden", KEY.id, 1), ("unknown", None, 1)]
    failures.write(61.0)
    assert told(settings)[3:] == [("expired", KEY.id, 1000)]
    *_, newest = read_entries(audit_path(settings))
    assert (newest.action, newest.name, newest.who) == ("refused", "crm", "service")
    assert began < newest.refusals.first_at < newest.refusals.last_at <= newest.at
    assert counted(metrics, "written") == 4


def test_a_flood_of_an_hour_is_a_line_a_minute_of_each_reason(settings, failures):
    for second in range(3600):
        for _ in range(3):
            failures.count("unknown", None)
            failures.count("missing", None)
        failures.write(float(second))
    failures.write(3600.0, everything=True)
    found = told(settings)
    assert len(found) <= 2 * 61
    assert {reason: sum(times for each, _, times in found if each == reason) for reason in ("unknown", "missing")} == {
        "unknown": 10800,
        "missing": 10800,
    }
    assert len(failures._due_at) == 2


@pytest.mark.slow
def test_the_end_writes_what_is_left(settings, failures, metrics):
    failures.start()
    failures.count("revoked", KEY)
    until(lambda: told(settings) == [("revoked", KEY.id, 1)])
    for _ in range(5):
        failures.count("revoked", KEY)
    failures.count("missing", None)
    failures.stop()
    assert told(settings)[1:] == [("revoked", KEY.id, 5), ("missing", None, 1)]
    assert counted(metrics, "lost") == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "churn-key-audit"]


def test_it_may_end_before_it_began_and_begin_again(settings, failures):
    failures.stop()
    for times in (1, 2):
        failures.start()
        for _ in range(times):
            failures.count("missing", None)
        failures.stop()
    assert told(settings) == [("missing", None, 1), ("missing", None, 2)]


def test_a_disk_that_refuses_loses_nothing_and_is_told_once(settings, failures, metrics, caplog):
    folder = audit_path(settings).parent
    folder.write_text("a file where the folder should be")
    failures.count("unknown", None)
    failures.write(0.0)
    for second in range(1, 20):
        failures.count("unknown", None)
        failures.count("expired", OTHER)
        failures.write(float(second))
    # Tried every five seconds.
    assert counted(metrics, "failed") == 4
    assert caplog.text.count("refused keys are not in the audit") == 1
    assert str(settings.home) not in caplog.text
    folder.unlink()
    failures.write(20.0)
    assert told(settings) == [("unknown", None, 20), ("expired", OTHER.id, 19)]
    assert "written into the audit again" in caplog.text
    assert counted(metrics, "written") == 2


def test_a_home_that_was_removed_is_not_made_again(settings, failures, metrics, caplog):
    failures.count("unknown", None)
    failures.write(0.0)
    gone = settings.home.rename(settings.home.with_name("gone"))
    failures.count("missing", None)
    failures.write(1.0)
    assert not settings.home.exists()
    assert (counted(metrics, "failed"), caplog.text.count("refused keys are not in the audit")) == (1, 1)
    gone.rename(settings.home)
    failures.write(10.0)
    assert told(settings) == [("unknown", None, 1), ("missing", None, 1)]


def test_a_broken_audit_is_told_once_and_never_mended(settings, failures, metrics, caplog):
    path = audit_path(settings)
    failures.count("unknown", None)
    failures.write(0.0)
    good, spoilt = path.read_bytes(), path.read_bytes()[:-1]
    path.write_bytes(spoilt)
    failures.count("missing", None)
    for second in range(1, 20):
        failures.write(float(second))
    assert path.read_bytes() == spoilt
    assert (counted(metrics, "broken"), caplog.text.count("the audit of API keys is broken")) == (4, 1)
    path.write_bytes(good)
    failures.write(30.0)
    assert told(settings) == [("unknown", None, 1), ("missing", None, 1)]


def test_what_can_not_be_written_before_the_end_is_counted_as_lost(settings, failures, metrics, caplog):
    failures.count("unknown", None)
    failures.write(0.0)
    audit_path(settings).unlink()
    failures.start()
    for _ in range(3):
        failures.count("unknown", None)
    failures.count("missing", None)
    failures.stop()
    assert counted(metrics, "lost") == 4
    assert "4 refused requests could not be written" in caplog.text


@pytest.mark.slow
def test_counting_never_waits_for_who_holds_the_file(settings, failures):
    from bentos.churn.auth.audit_log import _locked

    failures.start()
    with _locked(audit_path(settings)):
        failures.count("unknown", None)
        until(lambda: failures._in_hand)
        # If counting waited for the lock, it would wait for this very thread.
        for _ in range(10_000):
            failures.count("unknown", None)
    failures.stop()
    assert sum(times for _, _, times in told(settings)) == 10_001
