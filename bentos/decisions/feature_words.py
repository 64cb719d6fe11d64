"""Names and values of features in the words of a person, for messages and lists. Pure."""

from __future__ import annotations

from typing import Any, Final

WORDS: Final = {"usd": "(USD)", "mb": "(MB)", "tv": "TV"}
"""Part of a name -> its words."""
NAMES: Final = {"protection_count": "the number of protective add-ons"}
"""Name of a feature -> its words, where the parts of the name would not be understood."""


def spoken(name: str) -> str:
    """Return the name of a feature or view in words.

    The page of the service writes names by the same rule, from the same tables.

    >>> from bentos.decisions.feature_words import spoken
    >>> spoken("monthly_charges_usd"), spoken("customer_billing")
    ('monthly charges (USD)', 'billing')
    """
    return NAMES.get(name) or " ".join(WORDS.get(word, word) for word in name.removeprefix("customer_").split("_"))


def quoted(value: Any) -> str:
    """Return a value of a closed domain as it may be given in a request: true and false are Yes and No.

    >>> from bentos.decisions.feature_words import quoted
    >>> quoted(True), quoted("One year")
    ('"Yes"', '"One year"')
    """
    return f'"{("No", "Yes")[value] if isinstance(value, bool) else value}"'
