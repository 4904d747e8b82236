"""Bodies that are made to take long: nanoseconds for each of their bytes, beside a file of noise.

In process. Each is sent in three sizes: where a byte costs more in a larger
body, the time is not linear in what was sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from starlette_upload_keepalive import UploadKeepAliveMiddleware, Uploads

from .forms import BOUNDARY, KIB, MIB, Form, Part, boundary_like, noise, repeat
from .measure import Bench, Contender, Unit

_PER_BYTE = Unit("ns", 1e9, is_rate=False)
_MANY = 1_000_000
_LINE = 4000  # of a header; the parser takes 4,224 bytes

_DELIMITER = b"\r\n--" + BOUNDARY
_END = _DELIMITER + b"--\r\n"
_FIELD = b'Content-Disposition: form-data; name="a"'
_SMALL = Part("file", b"", "a.bin").encoded()


@dataclass(frozen=True)
class Attack:
    """A body that is made to take long.

    Attributes:
        make: Makes it, of about that many bytes.
        message_size: The bytes of each message.
    """

    make: Callable[[int], bytes]
    message_size: int = 64 * KIB

    def form(self, size: int) -> Form:
        """Return it in its messages."""
        return Form.raw(self.make(size), message_size=self.message_size)


def _file(block: bytes) -> Callable[[int], bytes]:
    return lambda size: _noisy(repeat(block, size))


def _noisy(data: bytes) -> bytes:
    return _SMALL.removesuffix(b"\r\n") + data + _END


def _parts(part: bytes) -> Callable[[int], bytes]:
    """Repeat what stands between two boundaries."""
    each = part + _DELIMITER + b"\r\n"

    def make(size: int) -> bytes:
        whole = _DELIMITER[2:] + b"\r\n" + each * max(1, size // len(each))
        return whole.removesuffix(b"\r\n") + b"--\r\n"

    return make


def _of_noise(size: int) -> bytes:
    return _noisy(noise(size))


_CONTINUED = b"".join(b"; filename*%d=b" % number for number in range(200))

ATTACKS = {
    "A file of line ends": Attack(_file(b"\r\n")),
    "A file of half boundaries": Attack(_file(_DELIMITER[:8])),
    "A file of boundaries but for a byte": Attack(lambda size: _noisy(boundary_like(size))),
    "A file of boundaries that go on": Attack(_file(_DELIMITER + b"x")),
    "Fields of no bytes": Attack(_parts(_FIELD + b"\r\n\r\n")),
    "Files of no bytes": Attack(_parts(_FIELD + b"; filename=a\r\n\r\n")),
    "Eight headers for each part": Attack(_parts(_FIELD + b"\r\nX: y" * 7 + b"\r\n\r\n")),
    "Long names": Attack(_parts(_FIELD.replace(b'"a', b'"' + b"a" * _LINE) + b"\r\n\r\n")),
    "Semicolons in dispositions": Attack(_parts(_FIELD + b";" * _LINE + b"\r\n\r\n")),
    "Semicolons in quotes": Attack(_parts(_FIELD + b'; x="' + b";" * _LINE + b'"\r\n\r\n')),
    "Continued filenames": Attack(_parts(_FIELD + _CONTINUED + b"\r\n\r\n")),
    "Line ends before the form": Attack(lambda size: repeat(b"\r\n", size // 2 * 2) + _noisy(b"")),
    "Boundaries after the form": Attack(lambda size: _noisy(b"") + repeat(_DELIMITER, size)),
}
ONE_BY_ONE = {
    "Noise, a byte a message": Attack(_of_noise, 1),
    "Nearly boundaries, a byte a message": Attack(lambda size: _noisy(boundary_like(size)), 1),
    "A field, a byte a message": Attack(
        lambda size: _parts(_FIELD + b"\r\n\r\n" + noise(size))(1), 1
    ),
    "Long headers, a byte a message": Attack(
        lambda size: _parts(_FIELD + b"\r\nX: " + b"y" * min(size, _LINE) + b"\r\n\r\n")(size), 1
    ),
    "Line ends before the form, a byte a message": Attack(
        lambda size: repeat(b"\r\n", size // 2 * 2) + _noisy(b""), 1
    ),
}


async def run(bench: Bench) -> None:
    """Parse each in three sizes, beside noise of the largest."""
    for attacks, largest in [
        (ATTACKS, bench.pick(2048, quick=32)),
        (ONE_BY_ONE, bench.pick(64, quick=4)),
    ]:
        for title, attack in attacks.items():
            noise = Attack(_of_noise, attack.message_size).form(largest * KIB)
            sizes = [largest // 4, largest // 2, largest]
            contenders = [
                *[_contender(f"{size} KiB", attack.form(size * KIB)) for size in sizes],
                _contender(f"{largest} KiB of noise", noise),
            ]
            await bench.race(f"{title}: for each byte", _PER_BYTE, contenders)


def _contender(name: str, form: Form) -> Contender:
    uploads = Uploads(memory_max_size=4 * MIB)  # else it is the disk that is measured
    app = UploadKeepAliveMiddleware(parse, uploads=uploads)

    async def run() -> Sequence[float]:
        start = time.perf_counter()
        await form.post(app)
        uploads.storage.closer.drain()
        return [(time.perf_counter() - start) / form.size]

    return Contender(name, run, check=partial(form.post, app))


async def parse(scope: Scope, receive: Receive, send: Send) -> None:
    """Ask for the form, whatever is in it; one that is refused is an error."""
    async with Request(scope, receive).form(max_files=_MANY, max_fields=_MANY):
        pass
