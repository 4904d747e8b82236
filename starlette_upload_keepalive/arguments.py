"""What goes into a job and what comes out of it: JSON, whatever the spool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .exceptions import ResultTooLarge
from .storage import KIB

MAX_RESULT_SIZE = 64 * KIB


@dataclass(frozen=True)
class Arguments:
    """What a handler is called with besides the upload.

    Attributes:
        positional: Those by position.
        named: Those by name.
    """

    positional: Sequence[Any] = ()
    named: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def checked(cls, positional: Sequence[Any], named: Mapping[str, Any]) -> Arguments:
        """Copy arguments by way of JSON.

        Raises:
            TypeError: One of them is not JSON.
        """
        if not positional and not named:
            return cls()
        return cls(*through_json([positional, named], "The arguments of a job"))


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
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} must be JSON (None, bool, int, float, str, list, dict): {error}."
        ) from error
    if max_size is not None and len(text) > max_size:
        raise ResultTooLarge(
            f"{what} is {len(text)} bytes of JSON, more than {max_size}: "
            "store it elsewhere and return where it is."
        )
    return json.loads(text)
