"""What a spool keeps of a job: what it is, which never changes, and where it stands."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette_upload_keepalive.files.upload import Upload

FORMAT = 1
"""The version of a record's JSON. One that is written by a newer version is left alone."""

LATEST = 16**11 / 1000
"""All times are before, in seconds since 1970: in the year 2527."""

_ID = re.compile("[0-9a-f]{32}")


class UnreadableRecord(ValueError):
    """Raised when what a spool has kept is no record of a job."""


class NewerFormat(Exception):
    """Raised when a record was written by a newer version of this package."""


@dataclass(frozen=True)
class FileRecord:
    """One file of a job, without its bytes.

    Attributes:
        size: Its bytes.
        filename: What the client called it.
        headers: The headers of its part, in Latin-1.
        field_name: The form field it came in, if it did.
    """

    size: int
    filename: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    field_name: str | None = None

    @classmethod
    def of(cls, upload: Upload) -> FileRecord:
        """Describe an upload."""
        raw = upload.headers.raw
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
        return cls(upload._view.blob.size, upload.filename, headers, upload.field_name)


@dataclass(frozen=True)
class JobRecord:
    """What a job is.

    Attributes:
        id: 32 hex digits.
        handler: The handler's name.
        files: Its files, in order.
        arguments: What else the handler is called with, as JSON; None for nothing.
        parent_id: The job whose handler submitted it, if one did.
        created_at: When it was made, in seconds since 1970 (UTC).
    """

    id: str
    handler: str
    files: Sequence[FileRecord]
    arguments: str | None = None
    parent_id: str | None = None
    created_at: float = field(default_factory=time.time)

    def to_json(self) -> bytes:
        """Return it as JSON."""
        # Names that clients give may hold lone surrogates: escaped, they are JSON all the same.
        files = [vars(file) for file in self.files]
        return json.dumps({"format": FORMAT, **vars(self), "files": files}).encode("ascii")

    @classmethod
    def from_json(cls, text: bytes) -> JobRecord:
        """Read it from JSON.

        Raises:
            NewerFormat: A newer version of this package has written it.
            UnreadableRecord: It is none.
        """
        try:
            found = json.loads(text)
            version = found.pop("format")
            if type(version) is int and version > FORMAT:
                raise NewerFormat(
                    f"The record has format {version}, and this version knows {FORMAT}."
                )
            if version != FORMAT:
                raise ValueError(f"a format of {version!r}")  # noqa: TRY301
            files = [_file_of(each) for each in found.pop("files")]
            record = cls(files=files, **found)
            record._check()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UnreadableRecord(f"It is no record of a job: {error!r}.") from error
        return record

    def _check(self) -> None:
        found: dict[str, object] = {**vars(self)}
        if not (
            is_job_id(found["id"])
            and isinstance(found["handler"], str)
            and isinstance(found["arguments"], (str, type(None)))
            and (found["parent_id"] is None or is_job_id(found["parent_id"]))
            and isinstance(found["created_at"], (int, float))
            and 0 <= found["created_at"] < LATEST  # JSON as Python reads it has NaN and Infinity
            and found["files"]
        ):
            raise ValueError("a value is not of its kind")
        if self.arguments is not None:
            json.loads(self.arguments)


def is_job_id(value: object) -> bool:
    """Tell whether it can be the id of a job, and so part of a path."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def handler_key(name: str) -> str:
    """Return 8 hex digits that stand for a handler; its own name may be any text."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _file_of(found: Mapping[str, Any]) -> FileRecord:
    headers = [(str(name), str(value)) for name, value in found["headers"]]
    for header in headers:
        "".join(header).encode("latin-1")
    size, filename, field_name = found["size"], found["filename"], found["field_name"]
    if type(size) is not int or size < 0:
        raise ValueError(f"a size of {size!r}")
    for text in (filename, field_name):
        if not (text is None or isinstance(text, str)):
            raise ValueError(f"a name of {text!r}")
    return FileRecord(size, filename, headers, field_name)


@dataclass(frozen=True)
class Standing:
    """Where a job stands.

    Attributes:
        due: From when on it may be claimed, in seconds since 1970 (UTC).
        attempts: How often its handler was started.
        failures: How many of those count against ``Retry.attempts``.
        crashes: How many of those ended with their process.
    """

    due: float
    attempts: int = 0
    failures: int = 0
    crashes: int = 0
