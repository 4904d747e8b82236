"""Parsing a form and closing its files, in process: from the first message to the last byte gone.

As limits: the bare parser, which stores nothing, and the raw body written to a
temporary file, which is not parsed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import IO

from python_multipart import MultipartParser

from .form_contenders import OURS, STARLETTE, expect, limited, ours, starlette
from .forms import BOUNDARY, KIB, MB, Form, Part, boundary_like, noise
from .measure import MICROSECONDS, Bench, Contender, Table, Unit
from .starlette_cases import Case, starlette_cases


async def run(bench: Bench) -> None:
    """Parse large files in messages of several sizes, and forms of many small parts."""
    size = bench.pick(200 * MB, quick=2 * MB)
    for message_size in (16 * KIB, 64 * KIB, 256 * KIB):
        form = Form.of([Part("file", noise(size), "large.bin")], message_size=message_size)
        await bench.race(
            f"Parse a file of {size / MB:g} MB, in messages of {message_size // KIB} KiB",
            Unit("MB/s", size / MB, is_rate=True),
            [starlette(form), ours(form), limited(form), _bare_parser(form), _raw_write(form)],
        )
    for title, parts in _forms().items():
        form = Form.of(parts)
        await bench.race(
            title,
            MICROSECONDS,
            [starlette(form), ours(form), limited(form), _bare_parser(form)],
            repeat=_repeat(bench, form),
        )
    no_boundary = Case(
        "Refuse a form without a boundary",
        Form.of(_files(1), content_type=b"multipart/form-data"),
        error="Missing boundary in multipart.",
    )
    await _cases(bench, [no_boundary])
    tables = await _cases(bench, starlette_cases())
    both = [STARLETTE, OURS]
    bench.mean("Geometric mean of Starlette's own ten cases, the last ten", both, of=tables)
    bench.mean("Geometric mean of all cases", both, of=bench.tables[:-1])


def _forms() -> dict[str, list[Part]]:
    return {
        "Parse a file of 1 MB": [Part("file", noise(MB), "file.bin")],
        "Parse one file of 2 kB": _files(1),
        "Parse ten files of 2 kB": _files(10),
        "Parse a hundred files of 2 kB": _files(100),
        "Parse 1,000 fields": _fields(1000),
        "Parse 20 fields, ten files of 2 kB and one of 3 MB": [
            *_fields(20),
            *_files(10),
            Part("file", noise(3 * MB), "file.bin"),
        ],
        "Parse a file of 10 MB that is boundary-like": [
            Part("file", boundary_like(10 * MB), "file.bin")
        ],
    }


def _files(count: int) -> list[Part]:
    return [Part("files", noise(2000), f"small-{i}.bin") for i in range(count)]


def _fields(count: int) -> list[Part]:
    return [Part(f"field-{i}", b"some value") for i in range(count)]


async def _cases(bench: Bench, cases: Sequence[Case]) -> list[Table]:
    for case in cases:
        await bench.race(
            case.title,
            MICROSECONDS,
            [
                starlette(case.form, case.error, **case.limits),
                ours(case.form, case.error, **case.limits),
            ],
            repeat=_repeat(bench, case.form),
        )
    return bench.tables[-len(cases) :]


def _repeat(bench: Bench, form: Form) -> int:
    """Return how many runs make a turn long enough to be timed."""
    weight = max(1, len(form.parts)) + form.size // (20 * KIB)
    return bench.pick(max(3, 2000 // weight), quick=1)


# The limits


def _bare_parser(form: Form) -> Contender:
    def parse() -> int:
        size = 0

        def count(data: bytes, start: int, end: int) -> None:
            nonlocal size
            size += end - start

        parser = MultipartParser(BOUNDARY, {"on_part_data": count})
        for message in form.messages:
            parser.write(message["body"])
        parser.finalize()
        return size

    async def run() -> None:
        parse()

    async def check() -> None:
        expect("bytes seen", parse(), sum(len(part.data) for part in form.parts))

    return Contender("bare python-multipart, nothing stored", run, check)


def _raw_write(form: Form) -> Contender:
    def write(file: IO[bytes]) -> None:
        for message in form.messages:
            os.write(file.fileno(), message["body"])

    async def run() -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            write(file)

    async def check() -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            write(file)
            expect("bytes written", os.fstat(file.fileno()).st_size, form.size)

    return Contender("raw body to a file, nothing parsed", run, check)
