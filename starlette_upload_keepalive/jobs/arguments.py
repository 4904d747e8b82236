"""What goes into a job and what comes out of it: JSON, whatever the spool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette_upload_keepalive.exceptions import ArgumentsTooLarge, ResultTooLarge
from starlette_upload_keepalive.quantities import KIB, MIB

MAX_ARGUMENTS_SIZE = MIB
MAX_RESULT_SIZE = 64 * KIB

_ENCODER = json.JSONEncoder(allow_nan=False)  # which json.dumps would make anew each time


class Arguments:
    """What a handler is called with besides the upload.

    Args:
        positional: Those by position.
        named: Those by name.

    Raises:
        TypeError: One of them is not JSON.
        ArgumentsTooLarge: They are more than 1 MiB of it.
    """

    def __init__(self, positional: Sequence[Any] = (), named: Mapping[str, Any] | None = None):
        self._text: str | None = None
        if positional or named:
            text = _to_json([positional, named or {}], "The arguments of a job")
            if len(text) > MAX_ARGUMENTS_SIZE:
                raise ArgumentsTooLarge(
                    f"The arguments of a job are {len(text)} bytes of JSON, more than "
                    f"{MAX_ARGUMENTS_SIZE}: store them elsewhere and submit where they are."
                )
            self._text = text

    @classmethod
    def of(cls, text: str | None) -> Arguments:
        """Make them of what `text` was."""
        arguments = cls()
        arguments._text = text
        return arguments

    @property
    def text(self) -> str | None:
        """They as JSON; None if there are none."""
        return self._text

    def fresh(self) -> tuple[list[Any], dict[str, Any]]:
        """Return those by position and those by name, which nobody else has changed."""
        if self._text is None:
            return [], {}
        positional, named = json.loads(self._text)
        return positional, named


def through_json(value: Any, what: str, max_size: int | None = None) -> Any:
    """Copy a value by way of JSON, as every spool would.

    Args:
        value: The value.
        what: What it is, for the error.
        max_size: The most bytes of JSON.

    Raises:
        TypeError: The value is not JSON.
        ResultTooLarge: It is more than that many bytes.
    """
    if value is None:  # what most handlers return
        return None
    return json.loads(as_json(value, what, max_size))


def as_json(value: Any, what: str, max_size: int | None = None) -> str:
    """Return a value as JSON.

    Args:
        value: The value.
        what: What it is, for the error.
        max_size: The most bytes of JSON.

    Raises:
        TypeError: The value is not JSON.
        ResultTooLarge: It is more than that many bytes.
    """
    text = _to_json(value, what)
    if max_size is not None and len(text) > max_size:
        raise ResultTooLarge(
            f"{what} is {len(text)} bytes of JSON, more than {max_size}: "
            "store it elsewhere and return where it is."
        )
    return text


def _to_json(value: Any, what: str) -> str:
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"{what} must be JSON (None, bool, int, float, str, list, dict): {error}."
        ) from error
