"""Which files of a form something is for: by field, path and declared media type."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from re import Pattern
from typing import cast

from starlette.routing import compile_path

# A media type without parameters (RFC 9110, 8.3.1), or with wildcards in it.
_PATTERN = re.compile(r"[^\s;/]+/[^\s;/]+|\*")


@dataclass(frozen=True)
class FileMatch:
    """Which files of a form something is for.

    Attributes:
        field: The form field.
        path: The path of the request as in a route, "/users/{id}/photos"; any if None.
        content_types: Patterns of the declared media type, "image/*"; any if empty.

    Raises:
        ValueError: The field is empty, the path is not one of a route, or a pattern
            not one of a media type.
    """

    field: str
    path: str | None = None
    content_types: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.field:
            raise ValueError("field must be the name of a form field, not empty.")
        for pattern in self.content_types:
            if not _PATTERN.fullmatch(pattern):
                raise ValueError(f"content_type must be like 'image/*', not {pattern!r}.")
        if self.path is not None and not self.path.startswith("/"):
            raise ValueError(f"path must start with '/', not be {self.path!r}.")
        try:
            _ = self._route
        except (AssertionError, KeyError, ValueError) as error:
            raise ValueError(f"path {self.path!r} is not one of a route: {error}.") from None

    def is_on(self, path: str) -> bool:
        """Whether it is for requests of a path."""
        return self._route is None or self._route.match(path) is not None

    def chooses(self, field: str | None, content_type: str | None) -> bool:
        """Whether it is for a file.

        Args:
            field: The form field that it came in, if it did.
            content_type: What its client has declared, with its parameters.
        """
        return field == self.field and (
            not self.content_types or is_of(self.content_types, content_type)
        )

    @cached_property
    def _route(self) -> Pattern[str] | None:
        return None if self.path is None else compile_path(self.path)[0]


def patterns_of(content_type: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one or several patterns of media types in the form that `is_of` takes, if any.

    Raises:
        TypeError: One of them is no string.
        ValueError: There are none in a sequence of them.
    """
    if content_type is None:
        return ()
    patterns = (content_type,) if isinstance(content_type, str) else tuple(content_type)
    if not all(isinstance(pattern, str) for pattern in cast("tuple[object, ...]", patterns)):
        raise TypeError(f"content_type must be a string or a list of them, not {content_type!r}.")
    if not patterns:  # of an allow-list, perhaps, that could not be read
        raise ValueError("content_type has no media type: to take any, leave it out.")
    return tuple(pattern.lower() for pattern in patterns)


def is_of(patterns: Sequence[str], content_type: str | None) -> bool:
    """Whether a declared media type is one of those that patterns stand for."""
    declared = (content_type or "").partition(";")[0].strip().lower()
    return _compiled(tuple(patterns)).fullmatch(declared) is not None


@lru_cache
def _compiled(patterns: tuple[str, ...]) -> Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns)))
