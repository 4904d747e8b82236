"""Twice as much of what is hostile takes twice as much work, and no more: counted, not timed."""

from __future__ import annotations

import sys
import threading
from functools import partial
from types import FrameType
from typing import Any

import anyio
import pytest
from python_multipart import MultipartParser

from benchmarks.forms import KIB, Form, noise, repeat
from benchmarks.hostile import ATTACKS, ONE_BY_ONE, Attack, parse
from starlette_upload_keepalive import UploadKeepAliveMiddleware
from starlette_upload_keepalive.forms import part_parser
from tests.asgi import file_part, multipart
from tests.hostile.bodies import DELIMITER

# Above what the last part, the last message and the like may add.
LINEAR = 2.2


def steps(form: Form) -> int:
    """Count the instructions that Python carries out to read a form.

    In a thread of its own, since coverage may follow this one.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    async def post() -> None:
        app = UploadKeepAliveMiddleware(parse)
        await form.post(app)  # what is made on first use
        sys.settrace(trace)
        try:
            await form.post(app)
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=partial(anyio.run, post))
    thread.start()
    thread.join()
    return count


@pytest.mark.parametrize(
    ("attack", "size"),
    [
        *[
            pytest.param(Attack(attack.make, KIB), 16 * KIB, id=name)
            for name, attack in ATTACKS.items()
        ],
        *[pytest.param(attack, KIB // 2, id=name) for name, attack in ONE_BY_ONE.items()],
    ],
)
def test_work_is_linear(attack: Attack, size: int) -> None:
    """P7."""
    small, twice, four_times = [steps(attack.form(size * factor)) for factor in [1, 2, 4]]
    assert 0 < small < twice < four_times
    assert four_times - twice < LINEAR * (twice - small)


@pytest.mark.parametrize("block", [b"\r\n", DELIMITER[:8]], ids=["line ends", "half boundaries"])
@pytest.mark.parametrize("message_size", [1, KIB])
def test_file_of_what_is_nearly_a_boundary_takes_no_more_than_noise(
    block: bytes, message_size: int
) -> None:
    """At most twice as much as noise takes python-multipart, which most of it is spared."""
    size = 2 * KIB * min(message_size, 8)
    made = [multipart(file_part(data)) for data in [noise(size), repeat(block, size)]]
    content_type = b"multipart/form-data; boundary=" + DELIMITER[4:]
    forms = [Form.raw(b, message_size=message_size, content_type=content_type) for b in made]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_parser._StateMachine, "write", MultipartParser.write)
        usual = steps(forms[0])
    hostile = steps(forms[1])
    assert usual / 2 < hostile < usual * 2
