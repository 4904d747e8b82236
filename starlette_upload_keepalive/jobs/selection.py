"""Which files a handler runs for by itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from starlette_upload_keepalive.files.upload import Upload
from starlette_upload_keepalive.limits.file_match import FileMatch, patterns_of


@dataclass(frozen=True)
class Selection:
    """Which files a handler runs for by itself.

    Attributes:
        files: The files, by field, path and media type.
        many: One job for all files of the field, instead of one for each.
        accept: Status codes that accept a file, besides 200 to 299.

    Raises:
        TypeError: A status code is none.
    """

    files: FileMatch
    many: bool = False
    accept: Collection[int] = ()

    @classmethod
    def of(
        cls,
        field: str | None,
        *,
        path: str | None,
        content_type: str | Sequence[str] | None,
        many: bool,
        accept: Collection[int],
    ) -> Selection | None:
        """Make one of what was given for it; None if no field was.

        Raises:
            ValueError: The field is empty, the path is not one of a route, a pattern not
                one of a media type, or there is no field for the rest.
            TypeError: As for the class, or what decorates has no parentheses.
        """
        if callable(field):
            raise TypeError("Write @uploads.handler(), with parentheses.")
        if field is None:
            if path is not None or content_type is not None or accept:
                raise ValueError(
                    "path, content_type and accept choose files to run for without a submit(): "
                    "name their form field too."
                )
            return None
        if isinstance(accept, int):
            raise TypeError(f"accept must be a collection of status codes: {{{accept}}}.")
        files = FileMatch(field, path, patterns_of(content_type))
        return cls(files, many=many, accept=frozenset(accept))

    def __post_init__(self) -> None:
        for status in self.accept:
            if not isinstance(status, int):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"accept must have status codes such as 303, not {status!r}.")

    def groups(self, uploads: Sequence[Upload], path: str) -> list[list[Upload]]:
        """Return the uploads of each job that is to run."""
        if not self.files.is_on(path):
            return []
        chosen = [upload for upload in uploads if self._chooses(upload)]
        if self.many:
            return [chosen] if chosen else []
        return [[upload] for upload in chosen]

    def accepts(self, status: int) -> bool:
        """Whether an answer with that status code accepts the files."""
        return 200 <= status < 300 or status in self.accept

    def _chooses(self, upload: Upload) -> bool:
        if upload.filename == "" and upload.size == 0:
            return False  # how a browser sends a file input that was left blank
        return self.files.chooses(upload.field_name, upload.content_type)
