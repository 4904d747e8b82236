"""A form to be parsed, and how a file of the corpus tells it.

::

    multipart/form-data; boundary=B
    --9-m!)
    --B
    ...

The first line is the content type. The second begins with `max_files`, `max_fields`,
`max_part_size` and `max_file_size`, each a hyphen for the default or one character that is as far
from "0" as the limit is high. The next is "d" if files belong on the disk. The others are the sizes
of the messages, over and over: each as large as its character is far from the space. With none
there is one message, and of more than 200 the last has all that is left. The rest is the body.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_LIMITS = ("max_files", "max_fields", "max_part_size", "max_file_size")
_DEFAULT = ord("-")
_ON_DISK = b"d"
_MOST = 200
# A server refuses them in a header (RFC 9110, 5.5).
_IN_NO_HEADER = b"\r\0"


@dataclass(frozen=True)
class FormCase:
    """What is sent, and what is allowed.

    Attributes:
        content_type: The request's.
        chunks: The body, message by message.
        limits: Arguments of ``request.form()``.
        max_file_size: The bytes of any file; no limit if None.
        on_disk: Whether all but the smallest files are to be written to the disk, in small batches.
    """

    content_type: str
    chunks: Sequence[bytes]
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    max_file_size: int | None = None
    on_disk: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


def decode(data: bytes) -> FormCase:
    """Read a file of the corpus, which may be any bytes."""
    content_type, _, rest = data.partition(b"\n")
    how, _, body = rest.partition(b"\n")
    limits = {
        name: max(value - ord("0"), 0)
        for name, value in zip(_LIMITS, how, strict=False)
        if value != _DEFAULT
    }
    sizes = [max(value - ord(" "), 0) for value in how[5:]]
    max_file_size = limits.pop("max_file_size", None)
    return FormCase(
        content_type.translate(None, _IN_NO_HEADER).decode("latin-1"),
        list(split(body, sizes)),
        limits,
        max_file_size,
        how[4:5] == _ON_DISK,
    )


def split(body: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut a body into messages of those sizes, over and over, but not into too many."""
    if not any(sizes):
        yield body
        return
    start = 0
    for size in itertools.islice(itertools.cycle(sizes), _MOST):
        yield body[start : start + size]
        start += size
        if start >= len(body):
            return
    yield body[start:]
