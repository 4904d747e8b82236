"""Bodies that are broken, odd or too much, and how each is to be answered on every server."""

from __future__ import annotations

from dataclasses import dataclass

from tests.asgi import BOUNDARY, Part, file_part, multipart
from tests.forms import FORM

KIB = 1024
MIB = 1024 * KIB
HANDLERS = 2  # that run for each accepted file of the field "photo"


@dataclass(frozen=True)
class Body:
    """What is sent, and what is to come of it.

    Attributes:
        data: The bytes.
        text: What the answer says: the values that the app saw, or what is wrong.
        status: The answer's.
        files: For how many the handlers run.
        content_type: The request's.
    """

    data: bytes
    text: str
    status: int = 200
    files: int = 0
    content_type: str = FORM


def refused(data: bytes, text: str, content_type: str = FORM) -> Body:
    return Body(data, text, status=400, content_type=content_type)


def taken(data: bytes, text: str, files: int = 0) -> Body:
    return Body(data, text, files=files)


INVALID = "Invalid multipart data."
INCOMPLETE = "Incomplete multipart data: the body ended before its closing boundary."
NO_NAME = 'The Content-Disposition header field "name" must be provided.'

DELIMITER = f"\r\n--{BOUNDARY}".encode()
CLOSING = DELIMITER + b"--\r\n"
FIRST = DELIMITER[2:] + b"\r\n"
FILE = b'Content-Disposition: form-data; name="photo"; filename="a.png"'
FIELD = b'Content-Disposition: form-data; name="a"'


def part(*headers: bytes, data: bytes = b"1") -> bytes:
    """Return what stands between two boundaries."""
    return b"\r\n".join(headers) + b"\r\n\r\n" + data


def named(filename: bytes) -> bytes:
    """Return a form with a file of that name."""
    header = FILE.replace(b"a.png", filename)
    return multipart(part(header, b"Content-Type: image/png", data=b"12345"))


def of_file(data: bytes) -> bytes:
    """Return a form with a file of those bytes."""
    return multipart(file_part(data))


def repeated(block: bytes, size: int = 2 * MIB) -> bytes:
    """Return that many bytes, a block after the other."""
    return (block * (size // len(block) + 1))[:size]


GOOD = of_file(b"1234567890")
OPEN = GOOD.removesuffix(CLOSING)

TRUNCATED = {
    "a whole file and no end": refused(OPEN, INCOMPLETE),
    "a whole file and half a one": refused(OPEN + b"\r\n" + of_file(bytes(MIB))[:KIB], INCOMPLETE),
    "half a large file": refused(of_file(bytes(3 * MIB))[: 2 * MIB], INCOMPLETE),
    "a boundary that opens at the end": refused(OPEN + DELIMITER + b"\r\n", INCOMPLETE),
    "one hyphen short of its end": refused(GOOD.removesuffix(b"-\r\n"), INCOMPLETE),
    "nothing": refused(b"", INCOMPLETE),
    "only the closing boundary": taken(multipart(), ""),
}

BOUNDARIES = {
    "no boundary": refused(GOOD, "Missing boundary in multipart.", "multipart/form-data"),
    "an empty boundary": refused(GOOD, INVALID, "multipart/form-data; boundary="),
    "a boundary of 257 bytes": refused(GOOD, INVALID, FORM + "b" * 257),
    "another boundary": refused(GOOD, INVALID, "multipart/form-data; boundary=another"),
    "two boundaries": refused(GOOD, INVALID, f"{FORM}; boundary=another"),
    "1 MB before the first boundary": refused(b"j" * MIB + GOOD, INVALID),
    "1 MB of line ends before it": taken(b"\r\n" * (MIB // 2) + GOOD, "photo=image/png:10", 1),
    "8 MB after the last boundary": taken(GOOD + bytes(8 * MIB), "photo=image/png:10", 1),
    "another form after the last boundary": taken(GOOD + GOOD, "photo=image/png:10", 1),
}

CONTENTS = {
    "a file of line ends": taken(of_file(repeated(b"\r\n")), f"photo=image/png:{2 * MIB}", 1),
    "a file of half boundaries": taken(
        of_file(repeated(DELIMITER[:8])), f"photo=image/png:{2 * MIB}", 1
    ),
    "a file of boundaries and a byte": taken(
        of_file(repeated(DELIMITER + b"x")), f"photo=image/png:{2 * MIB}", 1
    ),
    "base64 stays as it is": taken(
        multipart(part(FIELD, b"Content-Transfer-Encoding: base64", data=b"YQ==")), "a=YQ=="
    ),
    "a nested form is a field": taken(
        multipart(part(FIELD, b"Content-Type: multipart/mixed; boundary=i", data=b"--i--")),
        "a=--i--",
    ),
    "HTML that says it is an image": taken(
        of_file(b"<html><script>alert(1)</script>"), "photo=image/png:31", 1
    ),
    "an empty file": taken(of_file(b""), "photo=image/png:0", 1),
    "a file input left blank": taken(named(b"").replace(b"12345", b""), "photo=image/png:0"),
}

HEADERS = {
    "nine headers": refused(multipart(part(FIELD, *[b"X: y"] * 8)), INVALID),
    "a header of 5 KB": refused(multipart(part(FIELD, b"X: " + b"y" * 5000)), INVALID),
    "a header's name of 5 KB": refused(multipart(part(FIELD, b"X" * 5000 + b": y")), INVALID),
    "a header that never ends": refused(FIRST + FIELD + b"z" * MIB, INVALID),
    "spaces that never end": refused(FIRST + b"X:" + b" " * MIB, INVALID),
    "no header": refused(multipart(b"\r\n1"), NO_NAME),
    "a header without a colon": refused(multipart(part(b"no colon")), INVALID),
    "a header without a name": refused(multipart(part(FIELD, b": y")), INVALID),
    "a NUL in a header's name": refused(multipart(part(FIELD, b"X\0: y")), INVALID),
    "a header that is continued": refused(multipart(part(FIELD, b" X: y")), INVALID),
    "a boundary in the headers": refused(FIRST + FIELD + b"\r\n" + GOOD, INVALID),
    "no disposition": refused(multipart(part(b"X: y")), NO_NAME),
    "no name": refused(multipart(part(b"Content-Disposition: form-data")), NO_NAME),
    "an empty name": taken(multipart(part(b'Content-Disposition: form-data; name=""')), "=1"),
    "two dispositions": taken(multipart(part(FIELD, FIELD.replace(b'"a"', b'"b"'))), "b=1"),
    "4,000 semicolons": taken(multipart(part(FIELD + b";" * 4000)), "a=1"),
    "a quote that never ends": taken(multipart(part(FIELD + b'; x="' + b";" * 4000)), "a=1"),
}

COUNTS = {
    "1,001 files": refused(
        multipart(*[file_part(b"x")] * 1001), "Too many files. Maximum number of files is 1000."
    ),
    "1,001 fields": refused(
        multipart(*[Part("a")] * 1001), "Too many fields. Maximum number of fields is 1000."
    ),
    "a field of 1 MB and a byte": refused(
        multipart(Part("a", bytes(MIB + 1))), "Part exceeded maximum size of 1024KB."
    ),
    "a field of 1 MB": taken(multipart(Part("a", b"x" * MIB)), f"a={'x' * 20}"),
}

BODIES = {**TRUNCATED, **BOUNDARIES, **CONTENTS, **HEADERS, **COUNTS}

# What a client calls its file, and what an app may call it; before its suffix comes a unique part.
FILENAMES = {
    b"": ("file", ""),
    b"../../etc/passwd": ("passwd", ""),
    b"/etc/passwd": ("passwd", ""),
    rb"C:\x\y": ("y", ""),
    b"NUL\0byte.png": ("NULbyte", ".png"),
    b"\x1b[31mred.png": ("[31mred", ".png"),
    b"a" * 3900 + b".png": ("a" * 234, ".png"),
    b".": ("file", ""),
    b"..": ("file", ""),
    b"-rf": ("rf", ""),
    b"CON": ("_CON", ""),
    b"con.png": ("_con", ".png"),
    b".htaccess": ("file", ".htaccess"),
    b"a.png/": ("file", ""),
    b"%2e%2e%2fx": ("%2e%2e%2fx", ""),
    b"\xed\xa0\x80.png": ("\xed", ".png"),  # a lone surrogate is no UTF-8: taken for Latin-1
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe".encode(): ("gnp", ".exe"),
    b"<script>.svg": ("_script_", ".svg"),
}
