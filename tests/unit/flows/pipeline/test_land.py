"""The land flow's tasks, without a Prefect server: what they publish on its pages is left out."""

from datetime import UTC, date, datetime, timedelta

import pytest

from configs.settings import load_settings
from feature_repo.files.stable_reads import SourceUnreadableError
from flows.pipeline import land
from flows.steps.inbox import WaitingFile
from flows.steps.ingest_events import ingest_events
from tests.support.event_rows import NOW, event, publish_customers, write_lines


@pytest.mark.slow
def test_events_may_be_landed_as_of_the_past_although_others_came_since(tmp_path, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(land, "publish", lambda *_told: None)
    settings, clock = load_settings(), datetime.now(UTC)
    publish_customers(settings.home, "A-1")
    today = write_lines(tmp_path / "events_a.jsonl", event(occurred=clock - timedelta(days=1)))
    ingest_events(settings, today, now=clock)
    path = write_lines(tmp_path / "events_b.jsonl", event(occurred=NOW - timedelta(days=1)))
    landed = land.events.fn(WaitingFile(date.max, 0, path, "events"), NOW)
    assert (landed["delivery"], landed["admitted"]) == (2, 1)


def test_a_file_that_may_not_be_read_is_shown_on_prefects_pages(tmp_path, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    shown = []
    monkeypatch.setattr(land, "publish", lambda *told: shown.append(told))
    path = tmp_path / "events_a.jsonl"
    path.symlink_to(path)
    with pytest.raises(SourceUnreadableError, match=r"events_a\.jsonl can't be read"):
        land.land.fn(file=path)
    ((_, title, _),) = shown
    assert title == "Refused: events_a.jsonl; nothing was published"
