"""Parse and validate request bodies: strict JSON, strict types, and no value in any error text."""

from __future__ import annotations

import itertools
import json
from email.message import Message
from functools import lru_cache
from math import isfinite
from typing import Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from bentos.churn.errors import MediaTypeError, RequestInvalidError

Body = TypeVar("Body", bound=BaseModel)


def parse_body(content_type: str, raw: bytes, model: type[Body]) -> Body:
    """Parse a JSON body, declared as ``content_type``, and validate it as ``model``.

    Raises
    ------
    MediaTypeError
        Unless the content type is application/json in UTF-8.
    RequestInvalidError
        If the body is not strict JSON, or does not validate.
    """
    if not _is_json(content_type):
        raise MediaTypeError("the body must be JSON in UTF-8", "send the header content-type: application/json")
    return validate_body(parse_json(raw), model)


def parse_json(body: bytes) -> Any:
    """Return the JSON value of ``body``.

    Stricter than Python's own parser, which accepts what JSON parsers do not agree on: NaN and Infinity, numbers
    that overflow to infinity (1e999), and an object that has a key twice.
    """
    try:
        return json.loads(
            body.decode("utf-8-sig"), parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_without_twins
        )
    except UnicodeDecodeError:
        raise RequestInvalidError("the body is not UTF-8") from None
    except json.JSONDecodeError as broken:
        raise RequestInvalidError(f"the body is no JSON (character {broken.pos})") from None
    except RecursionError:
        raise RequestInvalidError("the body is nested too deeply") from None
    except ValueError:
        # Python refuses integers of thousands of digits; its text holds no digit, but ours has the service's wording.
        raise RequestInvalidError("the body holds a number that is too long") from None


def validate_body(value: Any, model: type[Body]) -> Body:
    """Validate ``value`` as ``model`` and return it.

    Raises RequestInvalidError with the broken rules and their locations. Only the first broken rule of a list is
    reported, and none of the fields where one is unknown: collecting them all takes longer than a prediction.
    """
    if isinstance(value, dict) and not value.keys() <= model.model_fields.keys():
        raise RequestInvalidError(f"the body has a field that is none of: {', '.join(model.model_fields)}")
    try:
        return model.model_validate(value)
    except ValidationError as broken:
        found = [f"{_place(each['loc'], model)}: {each['msg']}" for each in broken.errors(include_input=False)]
    raise RequestInvalidError("; ".join(dict.fromkeys(found)))


def _place(place: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """Return a location in field names and indices only: a key of an object is the caller's own text."""
    known = itertools.takewhile(lambda part: isinstance(part, int) or part in model.model_fields, place)
    return ".".join(map(str, known)) or "body"


_CONTENT_TYPE_MAX_CHARS: Final = 256
"""Longest content type that is parsed: parsing its parameters takes time quadratic in their number."""


@lru_cache(maxsize=64)
def _is_json(declared: str) -> bool:
    if len(declared) > _CONTENT_TYPE_MAX_CHARS:
        return False
    header = Message()
    header["content-type"] = declared or "none"
    charset = str(header.get_param("charset") or "utf-8").lower()
    return header.get_content_type() == "application/json" and bool(declared) and charset in {"utf-8", "utf8"}


def _no_number(_name: str) -> NoReturn:
    raise RequestInvalidError("NaN and Infinity are no JSON numbers")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise RequestInvalidError("the body holds a number that is out of range")
    return number


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RequestInvalidError("the body names a key twice")
    return found
