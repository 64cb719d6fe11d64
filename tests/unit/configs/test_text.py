"""Text as editors and other programs write it is read the same, wherever a file of ours may have been edited."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bentos.churn.api.request_body import parse_json
from bentos.churn.auth import key_store
from bentos.decisions import economics, levers, reason_codes
from configs import settings
from configs.errors import SettingsError
from configs.text import composed, decoded, encoding_of
from feature_repo.contract import CORE_SERVICE
from feature_repo.stores import freshness
from monitoring.gate_suites import SUITES, load_suite

WRITTEN = {
    "a mark": lambda text: text.encode("utf-8-sig"),
    "CRLF and a mark": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, big-endian": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_a_text_has_no_marks(written):
    assert decoded(WRITTEN[written]("\ufeffa\u00fc\n")).replace("\r", "") == "a\u00fc\n"


def test_what_announces_no_encoding_is_utf_8():
    assert [encoding_of(each) for each in (b"", b"{", b"\xff", b"\xef\xbb\xbf{")] == ["utf-8"] * 4
    for broken in (b"\xff", b"\xff\xfea", b"\xc3"):
        with pytest.raises(UnicodeDecodeError):
            decoded(broken)


MARKS = "\u0300\u0320\u0344\u0f73\u0345"
"""Combining marks of several classes; two of them decompose into others."""


@pytest.mark.slow
@given(st.text(st.sampled_from(f"ae\u00e9\uac00\u1100\u1161\u212b{MARKS}"), max_size=20), st.integers(1, 400))
@example(MARKS, 100)
@example(f"e{MARKS}\u00e9", 300)
def test_letters_are_composed_as_unicode_says(text, times):
    assert composed(text * times) == unicodedata.normalize("NFC", text * times)


@pytest.mark.slow
def test_a_million_marks_behind_a_letter_are_put_into_order_at_once():
    # By insertion they would take longer than a test may.
    assert composed("e" + "\u0301\u0323" * 500_000) == "\u1eb9" + "\u0323" * 499_999 + "\u0301" * 500_000


READERS = {
    "economics": (economics.ECONOMICS_FILE, economics.load_economics),
    "freshness": (freshness.FRESHNESS_FILE, freshness.load_freshness),
    "reasons": (reason_codes.PATH, lambda path: vars(reason_codes.load_reason_codes(CORE_SERVICE, path))),
    "levers": (
        levers.PATH,
        lambda path: levers.load_levers(CORE_SERVICE, reason_codes.load_reason_codes(CORE_SERVICE), path).choices,
    ),
    "suite": (SUITES / "telco_raw.json", lambda path: load_suite(path.stem, path.parent)),
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("reader", READERS)
def test_files_that_people_edit_are_read_however_their_editor_writes_them(tmp_path, reader, written):
    original, load = READERS[reader]
    copy = tmp_path / original.name
    copy.write_bytes(WRITTEN[written](original.read_text("utf-8")))
    assert str(load(copy)) == str(load(original))


@pytest.mark.parametrize("written", WRITTEN)
def test_keys_are_read_however_they_are_written(tmp_path, written):
    path = tmp_path / "keys.json"
    key_store.write_keys(path, key_store.KeyFile())
    path.write_bytes(WRITTEN[written](path.read_text("utf-8")))
    assert key_store.read_keys(path) == key_store.KeyFile()


@pytest.mark.parametrize("written", WRITTEN)
def test_settings_are_read_however_they_are_written(tmp_path, monkeypatch, written):
    text = (settings.CONFIG_DIR / "default.toml").read_text("utf-8")
    expected = settings.load_settings(home=tmp_path)
    (tmp_path / "default.toml").write_bytes(WRITTEN[written](text))
    monkeypatch.setattr(settings, "CONFIG_DIR", tmp_path)
    assert settings.load_settings(home=tmp_path) == expected


@pytest.mark.parametrize("content", [b"[data\n", b"\xff\xff"])
def test_settings_that_are_no_toml_are_refused_by_their_file(tmp_path, monkeypatch, content):
    (tmp_path / "default.toml").write_bytes(content)
    monkeypatch.setattr(settings, "CONFIG_DIR", tmp_path)
    with pytest.raises(SettingsError, match=r"default\.toml cannot be read"):
        settings.load_settings(home=tmp_path)


def test_a_request_may_begin_with_a_mark():
    assert parse_json(b'\xef\xbb\xbf{"customer_id": "7590-VHVEG"}') == {"customer_id": "7590-VHVEG"}
