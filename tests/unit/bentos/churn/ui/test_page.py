"""The page as a file: self-contained, and a policy that allows its own text alone."""

import base64
import hashlib
import re

import pytest

from bentos.churn.ui.page import render_page
from bentos.decisions.levers import LEVERS_NOTE


@pytest.fixture
def text():
    return render_page()[0].decode()


@pytest.fixture
def policy():
    return dict(directive.split(" ", 1) for directive in render_page()[1].split("; "))


def test_the_policy_allows_nothing_but_the_page_s_own_text_and_service(policy):
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for closed in ("base-uri", "form-action", "frame-ancestors", "trusted-types"):
        assert policy[closed] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in render_page()[1]
    assert not re.search(r"https?:|\*", render_page()[1])


@pytest.mark.parametrize(("directive", "tag"), [("script-src", "script"), ("style-src", "style")])
def test_each_inline_element_is_allowed_by_its_hash(text, policy, directive, tag):
    opened = text.split(f"<{tag}>")[1:]
    assert len(opened) == 1
    assert text.count(f"<{tag}") == 1, "an element with attributes would have no hash"
    inside = opened[0].split(f"</{tag}>")[0]
    digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    assert policy[directive] == f"'sha256-{digest}'"


def test_nothing_is_fetched_from_anywhere(text):
    outside = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|url\(|@import|src=|srcset|//\w", re.sub(r"(?m)\s// .*$", "", outside))


def test_no_style_and_no_handler_stands_in_an_attribute_and_no_text_becomes_html(text):
    assert not re.search(r"\sstyle=|\son\w+=", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)


def test_the_file_has_unix_line_ends_so_that_the_hash_is_the_browser_s(text):
    assert "\r" not in text


def test_what_it_says_of_an_offer_is_what_the_levers_say(text):
    assert LEVERS_NOTE in text


def test_it_is_read_once():
    assert render_page() is render_page()
