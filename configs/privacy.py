"""Pseudonyms of customer ids. Pure.

Customer ids are personal data: logs and reports carry a keyed pseudonym instead.
"""

from __future__ import annotations

import hashlib
import hmac


def pseudonym(customer_id: str, key: str) -> str:
    """Return the pseudonym of a customer id: ``c_`` and 16 hex digits.

    They are the HMAC-SHA256 (RFC 2104) of the id under ``key``, truncated to 64 bits. The same id and key give the same
    pseudonym, so that log lines can be joined; without the key it can't be reversed nor recomputed from a list of ids.
    """
    return "c_" + hmac.new(key.encode(), customer_id.encode(), hashlib.sha256).hexdigest()[:16]
