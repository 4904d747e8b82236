"""Forms that hypothesis makes: whole, odd, and broken in places."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import strategies as st

from tests.fuzzing.form_case import FormCase, split

T = TypeVar("T")

# Boundaries: those of browsers, all that RFC 2046 allows, and what it does not.
_RFC = "0123456789ABCXYZabcxyz'()+_,-./:=?"
BOUNDARIES = st.one_of(
    st.just("B"),
    st.just("----WebKitFormBoundaryd1a0b2c3e4f5"),
    st.text(_RFC, min_size=1, max_size=70),
    st.sampled_from(["-", "--", "---", "B B", 'a "b"', "a;b", "\\", "é", "b" * 256]),
    st.sampled_from(["", "b" * 257, "C"]),
)
CHARSETS = st.sampled_from(
    [
        *("utf-8", "UTF8", "latin-1", "ascii", "cp1252", "utf-16", "utf-7", "shift_jis"),
        *("idna", "punycode", "undefined", "utf-32", "hex", "rot13", "no-such", "é", ""),
    ]
)


def _mostly(usual: st.SearchStrategy[T], odd: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Take what is usual most of the time: of many oddities at once only the first is seen."""
    return st.sampled_from([usual] * 5 + [odd]).flatmap(lambda chosen: chosen)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _parameter(name: st.SearchStrategy[str], value: str) -> st.SearchStrategy[str]:
    values = (
        st.sampled_from([value, _quoted(value)]) if value.isalnum() else st.just(_quoted(value))
    )
    around = st.sampled_from(["", " ", "\t"])
    return st.builds("{0}{2}={2}{1}".format, name, values, around)


def _content_types(boundary: str) -> st.SearchStrategy[str]:
    right = _parameter(st.sampled_from(["boundary", "Boundary", "BOUNDARY"]), boundary)
    charsets = CHARSETS.flatmap(lambda value: _parameter(st.just("charset"), value))
    odd = st.sampled_from(["", "x", "boundary*=C", 'x="a;boundary=C"', 'x="', "boundary=C", "é=é"])
    more = st.lists(charsets | odd, max_size=2)
    plain = st.just(f"multipart/form-data; boundary={_quoted(boundary)}")
    return _mostly(plain, st.builds(_joined, right, more, st.booleans()))


def _joined(right: str, more: list[str], last: bool) -> str:
    parameters = [*more, right] if last else [right, *more]
    return ";".join(["multipart/form-data", *parameters])


# Parts

_TEXT = st.text(st.characters(exclude_characters="\r\n"), max_size=12).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
_RAW = st.binary(max_size=12).map(lambda raw: raw.translate(None, b"\r\n"))
_VALUES = st.one_of(
    _TEXT,
    _RAW,
    st.sampled_from([b"C:\\x\\y", b"\\\\server\\y", b'q\\"uote', b"../../x", b"a;b", b"", b'"']),
)
_ODD_DISPOSITIONS = st.lists(
    st.sampled_from(
        [
            *(b"form-data", b"Form-Data", b"attachment", b";", b"; ", b" ; ", b"=", b'"', b'""'),
            *(b"name", b"NAME", b"filename", b"filename*", b'="a"', b'="b c"', b"=a", b"=''b"),
            *(b'; name="a"', b'; filename="b"', b"; filename=b.txt", b'; x="y"', b"\\", b"'"),
            *(b"\t", b" ", b"\xc3\xa9", b"\xe9", b"\0", b"%41"),
        ]
    ),
    max_size=8,
).map(b"".join)


def _disposition(name: bytes, filename: bytes | None) -> bytes:
    more = b"" if filename is None else b'; filename="' + filename + b'"'
    return b'form-data; name="' + name + b'"' + more


_DISPOSITIONS = _mostly(
    st.builds(_disposition, _VALUES, st.none() | _VALUES),
    _ODD_DISPOSITIONS | _ODD_DISPOSITIONS.map(b"form-data; name=n".__add__),
)
_OTHER_HEADERS = st.sampled_from(
    [
        *(
            b"Content-Type: image/png",
            b"content-type:text/plain; charset=latin-1",
            b"X:",
            b"X:  y ",
        ),
        *(b"Content-Transfer-Encoding: base64", b"A-Long-One: " + b"y" * 4300, b"no colon", b": y"),
        *(b"X(: y", b"X\xe9: y", b"X: \xe9", b"Content-Disposition: form-data; name=second"),
    ]
)


def _headers(disposition: bytes, more: list[bytes], name: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in [name + disposition, *more])


HEADERS = st.builds(
    _headers,
    _DISPOSITIONS,
    _mostly(
        st.sampled_from([[], [b"Content-Type: image/png"], [b"X: y"] * 7]),
        st.lists(_OTHER_HEADERS, max_size=2) | st.just([b"X: y"] * 8),
    ),
    st.sampled_from([b"Content-Disposition: ", b"content-disposition:", b"CONTENT-DISPOSITION:  "]),
)


def _data(boundary: bytes) -> st.SearchStrategy[bytes]:
    delimiter = b"\r\n--" + boundary
    alike = [b"\r", b"\n", b"\r\n", b"-", b"\r\n--", delimiter[:-1], delimiter + b"x", b"x" * 40]
    return st.binary(max_size=60) | st.lists(st.sampled_from(alike), max_size=12).map(b"".join)


# Whole bodies, and broken ones


@st.composite
def bodies(draw: st.DrawFn, boundary: bytes) -> bytes:
    """Make a body of some parts, more often than not as it should be."""
    delimiter = b"--" + boundary
    body = draw(_mostly(st.just(b""), st.sampled_from([b"\r\n", b"\njunk\r\n", b"\n\n", b"x"])))
    for _ in range(draw(st.integers(0, 5))):
        padding = draw(_mostly(st.just(b""), st.sampled_from([b"", b"", b" ", b"\t "])))
        head, data = draw(HEADERS), draw(_data(boundary))
        body += delimiter + padding + b"\r\n" + head + b"\r\n" + data + b"\r\n"
    body += delimiter + b"--" + draw(st.sampled_from([b"\r\n", b"", b"\r\nmore"]))
    changes = st.lists(_changes(boundary), min_size=1, max_size=2)
    for change in draw(_mostly(st.just([]), changes)):
        body = change(body)
    return body


def _changes(boundary: bytes) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    words = st.sampled_from(
        [b"", b"\r", b"\n", b"\r\n", b"-", b"--", b":", b'"', b";", b"\0", b"x"]
    )
    words |= st.sampled_from([b"--" + boundary, b"\r\n--" + boundary + b"--", b"\r\n\r\n"])

    def replace(start: float, size: int, word: bytes) -> Callable[[bytes], bytes]:
        def change(body: bytes) -> bytes:
            at = int(start * len(body))
            return body[:at] + word + body[at + size :]

        return change

    def cut(share: float) -> Callable[[bytes], bytes]:
        return lambda body: body[: int(share * len(body))]

    place = st.floats(0, 1)
    return st.builds(replace, place, st.integers(0, 30), words) | st.builds(cut, place)


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "max_files": st.sampled_from([0, 1, 2, 1000, float("inf")]),
        "max_fields": st.sampled_from([0, 0.5, 1, 2, 1000, float("inf")]),
        "max_part_size": st.sampled_from([0, 1, 10, 60, 1024, 2500]),
    },
)


@st.composite
def form_cases(draw: st.DrawFn) -> FormCase:
    """Make a form, its limits, and the messages that it comes in."""
    boundary = draw(BOUNDARIES)
    body = draw(bodies(boundary.encode("latin-1")))
    sizes = draw(st.just([]) | st.lists(st.integers(0, 40), max_size=6))
    return FormCase(
        draw(_content_types(boundary)),
        list(split(body, sizes)),
        draw(LIMITS),
        draw(_mostly(st.none(), st.sampled_from([1, 10, 50]))),
        draw(st.booleans()),
    )
