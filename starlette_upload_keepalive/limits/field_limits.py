"""What the files of a form field may be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from starlette_upload_keepalive.exceptions import FileTooLarge, UnsupportedFileType, UploadRefused
from starlette_upload_keepalive.quantities import check_least

from .file_match import FileMatch, is_of, patterns_of
from .head_check import HeadCheck
from .sniffing import Sniffer


@dataclass(frozen=True)
class FieldLimits:
    """What the files of a form field may be: given to ``Uploads(fields=[...])``.

    Args:
        field: The form field.
        path: Only in requests of this path, as in a route: "/users/{id}/photos".
        max_size: The bytes of a file; 413 while it arrives. No limit if None.
        content_type: The declared media type that is taken, or several: "image/*"; any if
            None. A file of another is refused with 415, before any of its bytes is stored.
        sniff: Whether a file is refused as well that does not begin like what it is
            declared as. It needs the extra ``sniff``.

    Raises:
        ValueError: The field is empty, the path is not one of a route, a pattern not
            one of a media type, there is no pattern, or the size is none.
        ImportError: It is to sniff, and what does that is not installed.
    """

    field: str
    path: str | None = None
    max_size: int | None = None
    content_type: str | Sequence[str] | None = None
    sniff: bool = False

    def __post_init__(self) -> None:
        if self.max_size is not None:
            check_least("max_size", self.max_size, 1, " byte")
        _ = self.rule

    @cached_property
    def rule(self) -> FileRule:
        """What it says, for the parser."""
        allowed = FileMatch(self.field, self.path, patterns_of(self.content_type)).content_types
        sniffer = Sniffer() if self.sniff else None
        return FileRule(FileMatch(self.field, self.path), self.max_size, allowed, sniffer)


class FileRule(NamedTuple):
    """What some files of a form may be.

    Attributes:
        files: Which files it is for.
        max_size: Their most bytes, if there is a limit.
        allowed: Patterns of the media types that they may be declared as; any if empty.
        sniffer: Compares their first bytes with that, if they are to be.
    """

    files: FileMatch
    max_size: int | None = None
    allowed: Sequence[str] = ()
    sniffer: Sniffer | None = None


class Allowance(NamedTuple):
    """What one file may be.

    Attributes:
        max_size: Its most bytes.
        instead: The media types that are taken, if its own is not.
        head: Checks its first bytes, if they are to be checked.
    """

    max_size: float = math.inf
    instead: Sequence[str] = ()
    head: HeadCheck | None = None

    def refusal(self, field: str) -> UploadRefused:
        """Return what is raised for a file of a field that is more than this."""
        if self.instead:
            return UnsupportedFileType(field, self.instead)
        return FileTooLarge(field, int(self.max_size))


UNLIMITED = Allowance()


class FormLimits:
    """What the files of one form may be.

    Args:
        rules: Those for the path of its request.
        max_file_size: The bytes of any file, if there is a limit.
    """

    def __init__(self, rules: Sequence[FileRule] = (), max_file_size: int | None = None) -> None:
        self._rules = rules
        self._default = UNLIMITED if max_file_size is None else Allowance(max_file_size)

    def of(self, field: str, headers: Mapping[str, str]) -> Allowance:
        """Return what a file may be: if it has a type that is not taken, nothing.

        Args:
            field: The form field it comes in.
            headers: Those of its part.
        """
        most, head = self._default.max_size, None
        for files, max_size, allowed, sniffer in self._rules:
            if field != files.field:
                continue
            content_type = headers.get("content-type")
            if not files.chooses(field, content_type):
                continue
            if allowed and not is_of(allowed, content_type):
                return Allowance(0, allowed)
            if max_size is not None:
                most = min(most, max_size)
            if sniffer is not None:
                head = HeadCheck(sniffer, field, content_type)
        return Allowance(most, head=head) if self._rules else self._default
