"""The table of Feast's faults has a form that a program can read, and holds every guard."""

from __future__ import annotations

from configs.settings import PROJECT_ROOT

PAGE = (PROJECT_ROOT / "docs" / "pitfalls.md").read_text()


def rows():
    table = PAGE[PAGE.index("| fault | symptom |") :].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:] if line.startswith("|")]


def test_each_row_is_a_name_a_symptom_a_cause_a_way_round_and_its_state():
    found = rows()
    assert len(found) > 10
    assert all(len(row) == 5 and all(row) for row in found)
    assert len({row[0] for row in found}) == len(found)
    assert {row[4] for row in found} == {"gone round", "open"}
