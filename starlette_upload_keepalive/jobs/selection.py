"""Which files a handler runs for by itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from re import Pattern

from starlette.routing import compile_path

from starlette_upload_keepalive.files.upload import Upload


@dataclass(frozen=True)
class Selection:
    """Which files a handler runs for by itself.

    Attributes:
        field: The form field.
        path: The path of the request as in a route, "/users/{id}/photos"; any if None.
        content_types: Patterns of the declared media type, "image/*"; any if empty.
        many: One job for all files of the field, instead of one for each.
        accept: Status codes that accept a file, besides 200 to 299.

    Raises:
        ValueError: The field is empty, the path is not one of a route, or a pattern
            not one of a media type.
        TypeError: A status code is none.
    """

    field: str
    path: str | None = None
    content_types: Sequence[str] = ()
    many: bool = False
    accept: Collection[int] = ()

    @classmethod
    def of(
        cls,
        field: str | None,
        *,
        path: str | None,
        content_type: str | Sequence[str],
        many: bool,
        accept: Collection[int],
    ) -> Selection | None:
        """Make one of what was given for it; None if no field was.

        Raises:
            ValueError: As for the class, or there is no field for the rest.
            TypeError: As for the class, or what decorates has no parentheses.
        """
        if callable(field):
            raise TypeError("Write @uploads.handler(), with parentheses.")
        if field is None:
            if path is not None or content_type or accept:
                raise ValueError(
                    "path, content_type and accept choose files to run for without a submit(): "
                    "name their form field too."
                )
            return None
        if isinstance(accept, int):
            raise TypeError(f"accept must be a collection of status codes: {{{accept}}}.")
        content_types = (content_type,) if isinstance(content_type, str) else content_type
        return cls(
            field,
            path=path,
            content_types=tuple(pattern.lower() for pattern in content_types),
            many=many,
            accept=frozenset(accept),
        )

    def __post_init__(self) -> None:
        if not self.field:
            raise ValueError("field must be the name of a form field, not empty.")
        for pattern in self.content_types:
            if "/" not in pattern and pattern != "*":
                raise ValueError(f"content_type must be like 'image/*', not {pattern!r}.")
        for status in self.accept:
            if not isinstance(status, int):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"accept must have status codes such as 303, not {status!r}.")
        if self.path is not None and not self.path.startswith("/"):
            raise ValueError(f"path must start with '/', not be {self.path!r}.")
        try:
            _ = self._route
        except (AssertionError, KeyError, ValueError) as error:
            raise ValueError(f"path {self.path!r} is not one of a route: {error}.") from None

    def groups(self, uploads: Sequence[Upload], path: str) -> list[list[Upload]]:
        """Return the uploads of each job that is to run."""
        if self._route is not None and not self._route.match(path):
            return []
        chosen = [upload for upload in uploads if self._chooses(upload)]
        if self.many:
            return [chosen] if chosen else []
        return [[upload] for upload in chosen]

    def accepts(self, status: int) -> bool:
        """Whether an answer with that status code accepts the files."""
        return 200 <= status < 300 or status in self.accept

    @cached_property
    def _route(self) -> Pattern[str] | None:
        return None if self.path is None else compile_path(self.path)[0]

    def _chooses(self, upload: Upload) -> bool:
        if upload.field_name != self.field:
            return False
        if upload.filename == "" and upload.size == 0:
            return False  # how a browser sends a file input that was left blank
        if not self.content_types:
            return True
        declared = (upload.content_type or "").partition(";")[0].strip().lower()
        return any(fnmatchcase(declared, pattern) for pattern in self.content_types)
