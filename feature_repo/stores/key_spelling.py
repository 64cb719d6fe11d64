"""Feast's serialized entity keys (version 3), one at a time. Pure.

For whole columns, and for the layout, see ``entity_keys``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from feast.value_type import ValueType

_LENGTH: Final = struct.Struct("<I")
_INT64: Final = struct.Struct("<q")


def speller(join_key: str, value_type: ValueType) -> tuple[type, Callable[[Any], bytes]] | None:
    """Return the Python type of a join key's values and what spells one; None for other types than string and int64."""
    spelt = join_key.encode()
    head = struct.pack("<III", 1, ValueType.STRING.value, len(spelt)) + spelt + _LENGTH.pack(value_type.value)
    if value_type is ValueType.STRING:
        return str, lambda value: _string(head, value)
    if value_type is ValueType.INT64:
        head += _LENGTH.pack(_INT64.size)
        return int, lambda value: head + _INT64.pack(value)
    return None


def _string(head: bytes, value: str) -> bytes:
    spelt = value.encode()
    return b"%b%b%b" % (head, _LENGTH.pack(len(spelt)), spelt)
