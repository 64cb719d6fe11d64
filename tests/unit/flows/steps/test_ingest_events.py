"""What the command line says of a delivery."""

from datetime import date

from flows.steps.ingest_events import format_delivery, ingest_events
from tests.support.event_rows import NOW, event, publish_customers, write_lines


def test_a_line_of_counts_and_one_for_each_reason(settings, tmp_path):
    publish_customers(settings.home, "A-1")
    rows = [event(occurred="2024-05-02"), event(customer_id="Z-9"), *(event() for _ in range(38)), b"[]\n"]
    path = write_lines(tmp_path / "a.jsonl", *rows)
    lines = format_delivery(ingest_events(settings, path, now=NOW))
    counts = "41 events, 39 admitted, 2 quarantined, 1 waiting for their customer"
    assert lines == [
        f"published delivery 1: {counts}, known at 2024-05-02 01:00:00.000000 UTC",
        "  not_an_object 1: The line is JSON, but no object.",
        "  unknown_customer 1: No published snapshot knows the customer; the event waits until one does.",
    ]
    assert "Z-9" not in "".join(lines)
    (again, *_) = format_delivery(ingest_events(settings, path, now=NOW))
    assert again.startswith("was published before, nothing to do: delivery 1: 41 events")


def test_those_that_waited_are_told(settings, tmp_path):
    publish_customers(settings.home, "A-1")
    ingest_events(settings, write_lines(tmp_path / "a.jsonl", event(customer_id="N-1")), now=NOW)
    publish_customers(settings.home, "A-1", "N-1", as_of=date(2024, 4, 1))
    (line,) = format_delivery(ingest_events(settings, write_lines(tmp_path / "b.jsonl", event()), now=NOW))
    assert line.startswith("published delivery 2: 1 events and 1 that waited, 2 admitted, 0 quarantined, 0 waiting")
