"""The ten forms by which Starlette measures its own parser.

They are those of ``benchmarks/multipart_benchmark.py`` in the source
distribution of Starlette 1.10: as many fields and files of the same sizes, in
the same messages, with the same limits. Only the boundary is a browser's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .forms import KIB, MIB, Form, Part, boundary_like


@dataclass(frozen=True)
class Case:
    """A form, and what is to become of it.

    Attributes:
        title: What is parsed.
        form: What is sent.
        error: Why it is refused, if it is.
        limits: Arguments of ``request.form()``.
    """

    title: str
    form: Form
    error: str | None = None
    limits: dict[str, int] = field(default_factory=dict[str, int])


def starlette_cases() -> Sequence[Case]:
    """Return the ten."""
    spooled = _files(2 * MIB)
    return [
        Case("Parse 1,000 fields of 8 bytes", Form.of(_fields(1000))),
        Case("Parse a file of 512 KiB", Form.of(_files(512 * KIB))),
        Case(
            "Parse a file of 10 MiB, in one message", Form.of(_files(10 * MIB), message_size=None)
        ),
        Case("Parse a file of 10 MiB", Form.of(_files(10 * MIB))),
        Case("Parse 100 fields and a file of 512 KiB", Form.of(_fields(100) + _files(512 * KIB))),
        Case(
            "Parse a file of 1 MiB that is boundary-like",
            Form.of([Part("file0", boundary_like(MIB), "file.bin")]),
        ),
        Case(
            "Refuse a part without a name, after a file of 2 MiB",
            Form.of([*spooled, Part(None, b"invalid")]),
            error='The Content-Disposition header field "name" must be provided.',
        ),
        Case(
            "Refuse the 101st field",
            Form.of(_fields(101)),
            error="Too many fields. Maximum number of fields is 100.",
            limits={"max_fields": 100},
        ),
        Case(
            "Refuse the second file",
            Form.of(_files(1, 1)),
            error="Too many files. Maximum number of files is 1.",
            limits={"max_files": 1},
        ),
        Case(
            "Refuse a field of 2 KiB",
            Form.of(_fields(1, size=2 * KIB)),
            error="Part exceeded maximum size of 1KB.",
            limits={"max_part_size": KIB},
        ),
    ]


def _fields(count: int, *, size: int = 8) -> list[Part]:
    return [Part(f"field{i}", _letter(i) * size) for i in range(count)]


def _files(*sizes: int) -> list[Part]:
    return [Part(f"file{i}", _letter(i) * size, "file.bin") for i, size in enumerate(sizes)]


def _letter(index: int) -> bytes:
    return b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[index % 26 :][:1]
