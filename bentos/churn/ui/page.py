"""The page at /ui, and the Content-Security-Policy that runs only its own script and style."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Final

from bentos.decisions.feature_words import NAMES, WORDS

PATH: Final = Path(__file__).with_name("page.html")

_POLICY: Final = (
    "default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    # The browser itself rejects any text that a script would turn into HTML or code.
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@cache
def render_page() -> tuple[bytes, str]:
    """Return the page (UTF-8) and its Content-Security-Policy.

    Inline elements are allowed by their sha256 alone, so the file stays one piece and injected text does not run.
    """
    # A browser hashes what it has read, with line ends made "\\n"; so does read_text, whatever a checkout made of them.
    text = _filled(PATH.read_text("utf-8"))
    policy = _POLICY.format(scripts=_sources(text, "script"), styles=_sources(text, "style"))
    return text.encode(), policy


def _filled(text: str) -> str:
    """Return the page with the words of features and views."""
    for table, words in {"SPELT": WORDS, "NAMES": NAMES}.items():
        text = text.replace(f"const {table} = {{}};", f"const {table} = {json.dumps(words)};")
    return text


def _sources(text: str, tag: str) -> str:
    """Return the hashes of the inline elements of ``tag`` as CSP sources."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in found)
