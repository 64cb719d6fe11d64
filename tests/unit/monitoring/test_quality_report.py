from html.parser import HTMLParser

import pytest

from configs.errors import EXIT_GATE
from monitoring.quality_report import (
    CheckResult,
    GateFailedError,
    GateResult,
    QuarantinedRow,
    gate_from_json,
    gate_to_json,
    render_html,
)


def check(rule, **changed):
    told = {
        "column": "gender",
        "expectation": "expect_column_values_to_be_in_set",
        "passed": False,
        "failed_rows": 2,
        "failed_share": 0.02,
        "severity": "critical",
        "quarantine": False,
        "sample": (("c_0123", "<b>x</b>"),),
        "detail": "expected Female or Male",
        "why": "a & b",
    }
    return CheckResult(rule=rule, **{**told, **changed})


def result(*checks, passed=False):
    return GateResult(
        passed=passed, rows=100, blank_totals=3, quarantined=(QuarantinedRow(7, ("domain",)),), checks=checks
    )


@pytest.mark.parametrize(
    ("changed", "state", "stops"),
    [
        ({"passed": True}, "ok", False),
        ({}, "failed", True),
        ({"quarantine": True}, "quarantined", False),
        ({"severity": "warning"}, "warning", False),
        ({"severity": "info"}, "info", False),
    ],
)
def test_what_stops_a_snapshot(changed, state, stops):
    assert (check("r", **changed).state, check("r", **changed).stops) == (state, stops)


def test_json_reads_back():
    found = result(check("a"), check("b", passed=True, sample=()))
    assert gate_from_json(gate_to_json(found)) == found
    assert gate_to_json(found).isascii()


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "action"}]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_self_contained_and_escaped():
    html = render_html(result(check("ok", passed=True), check("bad")), "Gate <script>alert(1)</script>")
    page = _Page()
    page.feed(html)
    assert page.links == []
    assert not page.tags & {"script", "b", "link", "img", "iframe"}
    assert "prefers-color-scheme:dark" in html
    text = " ".join(page.text)
    assert "<b>x</b>" in text
    assert "c_0123" in text
    assert text.index("bad") < text.index("ok  gender"[:2], text.index("bad")), "failures come first"


def test_the_error_names_column_rule_count_and_sample_of_the_first_failures():
    failed = GateFailedError(
        result(
            check("one"),
            check("fine", passed=True),
            check("aside", quarantine=True),
            check("two", column="", failed_rows=0, sample=(), detail="found 7, expected 9 to 10"),
            check("three", failed_rows=1, sample=(), detail=""),
            check("four"),
        ),
        "reports/x.html",
    )
    assert failed.message == (
        "the gate refused the file: gender: rule one, 2 rows (2.00%), expected Female or Male, e.g. c_0123 <b>x</b>; "
        "the file: rule two, found 7, expected 9 to 10; gender: rule three, 1 row (2.00%); 1 more rules"
    )
    assert failed.hint.endswith("report: reports/x.html")
    assert (failed.error, failed.exit_code) == ("gate_failed", EXIT_GATE)


def test_the_error_tells_the_same_sample_and_the_same_cause_once():
    samples = tuple((f"c_{number}", "blanks around it") for number in range(4))
    ids = check("customer_id_pattern", failed_rows=4, sample=samples, detail="", cause="blanks around it")
    mixed = check("domain", sample=(("c_1", "yes"), ("c_2", "YES"), ("c_3", "yes")), cause="other letter case")
    assert GateFailedError(result(ids, mixed)).message == (
        "the gate refused the file: gender: rule customer_id_pattern, 4 rows (2.00%), "
        "e.g. c_0, c_1, c_2 blanks around it; gender: rule domain, 2 rows (2.00%), expected Female or Male, "
        "e.g. c_1, c_3 yes; c_2 YES, likely cause: other letter case"
    )
