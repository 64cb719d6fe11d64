"""A pseudonym is stable under its key and tells nothing."""

from __future__ import annotations

from configs.privacy import pseudonym


def test_the_same_id_and_key_give_the_same_pseudonym():
    assert pseudonym("7590-VHVEG", "key") == pseudonym("7590-VHVEG", "key")
    assert pseudonym("7590-VHVEG", "key") != pseudonym("7590-VHVEG", "another")
    assert pseudonym("7590-VHVEG", "key") != pseudonym("7590-VHVEH", "key")


def test_it_holds_no_part_of_the_id():
    found = pseudonym("7590-VHVEG", "key")
    assert found.startswith("c_")
    assert len(found) == 18
    assert "7590" not in found
