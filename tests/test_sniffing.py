"""What is declared is compared with how the file begins."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sqlite3
import struct
import tarfile
import wave
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from starlette_upload_keepalive.limits.media_types import SIGNED
from starlette_upload_keepalive.limits.sniffing import Sniffer, begins_mpeg_audio

SNIFFER = Sniffer()
OFFICE = "application/vnd.openxmlformats-officedocument"
HTML = b"<!DOCTYPE html><html><body>Hello</body></html>"
SCRIPT = b"<script>alert(1)</script>"
SVG = b'<?xml version="1.0"?>\n<!-- logo -->\n<svg xmlns="http://www.w3.org/2000/svg"></svg>'
TEXT = "Über allen Gipfeln ist Ruh.\n".encode()
SHELL = b"#!/bin/sh\nrm -rf ~\n"
WINDOWS = b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff" + bytes(46) + struct.pack("<I", 128) + bytes(400)
LINUX = b"\x7fELF\2\1\1" + bytes(60)


def picture(form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_mandelbrot((40, 30), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(
        file, form, **options
    )
    return file.getvalue()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), "content" * 100)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


def recorded() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(4000))
    return file.getvalue()


def iso_media(brand: bytes) -> bytes:
    return struct.pack(">I", 28) + b"ftyp" + brand + bytes(4) + b"isomiso2" + bytes(200)


def filled(beginning: bytes) -> bytes:
    return beginning + bytes(200)


# What each of them is declared as, by one client or another.
GENUINE = [
    ("image/png", picture("PNG")),
    ("image/jpeg", picture("JPEG")),
    ("image/jpg", picture("JPEG")),
    ("image/gif", picture("GIF")),
    ("image/webp", picture("WEBP")),
    ("image/bmp", picture("BMP")),
    ("image/tiff", picture("TIFF")),
    ("image/tiff", filled(b"II+\0\x08\0\0\0")),
    ("image/x-icon", picture("ICO")),
    ("image/vnd.microsoft.icon", picture("ICO")),
    ("image/heic", iso_media(b"heic")),
    ("image/heif", iso_media(b"mif1")),
    ("image/avif", iso_media(b"avif")),
    ("image/vnd.adobe.photoshop", filled(b"8BPS\0\1")),
    ("application/pdf", picture("PDF")),
    ("application/pdf", b"%PDF-1.4\nall of it is text"),
    ("application/postscript", picture("EPS")),
    ("application/rtf", rb"{\rtf1\ansi Hello}"),
    ("text/rtf", rb"{\rtf1\ansi Hello}"),
    ("application/zip", zipped("a.txt")),
    ("application/zip", zipped()),
    ("application/x-zip-compressed", zipped("a.txt")),
    ("application/java-archive", zipped("META-INF/MANIFEST.MF")),
    ("application/epub+zip", zipped("mimetype", "META-INF/container.xml")),
    (f"{OFFICE}.wordprocessingml.document", zipped("[Content_Types].xml", "word/document.xml")),
    (f"{OFFICE}.spreadsheetml.sheet", zipped("xl/workbook.xml", "[Content_Types].xml")),
    ("application/vnd.oasis.opendocument.text", zipped("mimetype", "content.xml")),
    ("application/msword", filled(bytes.fromhex("d0cf11e0a1b11ae1"))),
    ("application/vnd.ms-excel", filled(bytes.fromhex("d0cf11e0a1b11ae1"))),
    ("application/vnd.ms-excel", b"a;b\r\n1;2\r\n"),  # a CSV, to Windows
    ("application/x-tar", tarred()),
    ("application/gzip", gzip.compress(tarred(), mtime=0)),
    ("application/x-gzip", gzip.compress(tarred(), mtime=0)),
    ("application/x-bzip2", bz2.compress(TEXT)),
    ("application/x-xz", lzma.compress(TEXT)),
    ("application/x-7z-compressed", filled(bytes.fromhex("377abcaf271c0004"))),
    ("application/vnd.rar", filled(b"Rar!\x1a\x07\x01\0")),
    ("audio/wav", recorded()),
    ("audio/x-wav", recorded()),
    ("audio/mpeg", filled(b"ID3\4\0")),
    ("audio/mpeg", filled(b"\xff\xfb\x90\x64")),
    ("audio/mp3", filled(b"\xff\xf3\x44\xc4")),
    ("audio/flac", filled(b"fLaC\0\0\0\x22")),
    ("audio/ogg", filled(b"OggS\0\2")),
    ("audio/mp4", iso_media(b"M4A ")),
    ("video/mp4", iso_media(b"isom")),
    ("video/mp4", iso_media(b"dash")),
    ("video/quicktime", iso_media(b"qt  ")),
    ("video/quicktime", struct.pack(">I", 8) + filled(b"wide\0\0\0\0mdat")),
    ("video/webm", filled(bytes.fromhex("1a45dfa39f4286810142f7810142f28104") + b"webm")),
    ("video/x-matroska", filled(bytes.fromhex("1a45dfa3a34286810142f7810142f28104") + b"matroska")),
    ("video/x-msvideo", b"RIFF" + filled(b"\0\x10\0\0AVI LIST")),
    ("font/woff2", filled(b"wOF2\0\1\0\0")),
    ("application/x-msdownload", WINDOWS),
    ("application/x-executable", LINUX),
    # Text
    ("text/plain", TEXT),
    ("text/plain", TEXT.decode().encode("utf-16")),
    ("text/plain", TEXT.decode().encode("utf-8-sig")),
    ("text/plain", TEXT.decode().encode("latin-1")),
    ("text/plain; charset=utf-8", b"BMW sells cars. GIF89a is a format."),
    ("text/csv", b"a,b\n1,2\n"),
    ("application/json", b'{"a": [1]}'),
    ("application/ld+json", b"[]"),
    ("text/markdown", b"<p align=center>\n# Title\n"),
    ("text/x-python", b"#!/usr/bin/env python3\n"),
    ("application/x-sh", SHELL),
    ("text/html", HTML),
    ("application/xhtml+xml", HTML),
    ("text/html", b"no tag at all"),
    ("application/xml", b"<!-- a list --><a></a>"),
    ("application/xml", b"<title>of a song</title>"),
    ("image/svg+xml", SVG),
    ("text/css", b""),
    # Nothing is known of how these begin.
    ("application/x-unknown", b"\0\1\2"),
    ("application/x-unknown", TEXT),
    ("application/x-unknown", zipped("a.txt")),
    ("application/x-unknown", b""),
    ("image/x-unknown", b"\0\1\2"),
    ("image/openraster", zipped("mimetype", "stack.xml")),
    # These say nothing.
    ("application/octet-stream", HTML),
    ("application/octet-stream", LINUX),
    ("", HTML),
    (None, HTML),
]


@pytest.mark.parametrize(("declared", "data"), GENUINE)
def test_what_is_as_declared_passes(declared: str | None, data: bytes) -> None:
    assert SNIFFER.contradicts(declared, data[: SNIFFER.head]) is None


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty"),
        (HTML, "text/html"),
        (SCRIPT, "text/html"),
        (b"\xef\xbb\xbf \r\n\t" + SCRIPT, "text/html"),
        (b"<SCRIPT\nsrc=//evil.example>", "text/html"),
        (b"<!-- " + b"x" * 2000 + b" -->" + HTML, "text/html"),
        (SCRIPT.decode().encode("utf-16"), "text/html"),
        (SVG, "image/svg+xml"),
        (b"<svg onload='alert(1)'>", "image/svg+xml"),
        (b"<?xml version='1.0'?><a/>", "text/xml"),
        (picture("PDF"), "application/pdf"),
        (zipped("a.txt"), "application/zip"),
        (WINDOWS, "application/x-executable"),
        (LINUX, "application/x-executable"),
        (filled(bytes.fromhex("cffaedfe0c000001")), "application/x-executable"),
        (SHELL, "application/x-executable"),
        (TEXT, "text/plain"),
        (b"GIF89a/*" + b"a" * 2000 + b"*/=1;alert(1)", "text/plain"),  # a script, too
        (picture("TIFF"), "image/tiff"),
        (b"\0\1\2", "application/octet-stream"),
        (b"\xff\xfb", "text/plain"),  # too short for a frame
    ],
)
@pytest.mark.parametrize("declared", ["image/png", "image/gif", "IMAGE/JPG; name=a.jpg"])
def test_no_picture(declared: str, data: bytes, found: str) -> None:
    assert SNIFFER.contradicts(declared, data) == found


@pytest.mark.parametrize(
    ("declared", "data", "found"),
    [
        ("text/csv", SCRIPT, "text/html"),
        ("text/plain", HTML, "text/html"),
        ("text/plain", picture("PNG"), "image/png"),
        ("text/plain", b"%PDF-1.4\nall of it is text", "application/pdf"),
        ("text/html", b"%PDF-1.4\nall of it is text", "application/pdf"),
        ("text/plain", LINUX, "application/x-executable"),
        ("text/plain", b"nul\0", "application/octet-stream"),
        ("application/json", zipped("a.txt"), "application/zip"),
        ("image/svg+xml", HTML, "text/html"),
        ("image/svg+xml", TEXT, "text/plain"),
        ("application/vnd.ms-excel", HTML, "text/html"),
        ("application/msword", rb"{\rtf1 Hello}", "application/rtf"),
        ("audio/wav", picture("WEBP"), "image/webp"),
        ("image/webp", recorded(), "audio/wav"),
        ("image/heic", iso_media(b"isom"), "video/mp4"),
        ("video/mp4", iso_media(b"avif"), "image/heif"),
        ("application/x-unknown", SCRIPT, "text/html"),
        ("application/x-unknown", WINDOWS, "application/x-executable"),
        ("application/x-unknown", SHELL, "application/x-executable"),
        ("image/x-unknown", SVG, "image/svg+xml"),
        ("audio/x-unknown", picture("PDF"), "application/pdf"),
    ],
)
def test_no_such_file(declared: str, data: bytes, found: str) -> None:
    assert SNIFFER.contradicts(declared, data) == found


def test_the_end_of_what_was_read_is_not_the_end_of_the_file() -> None:
    """A signature of an MPEG's end says nothing."""
    head = b"\1" * 50 + b"\0\0\1\xb7"
    assert SNIFFER.contradicts("video/mpeg", head) == "application/octet-stream"


@pytest.mark.parametrize(
    ("header", "begins"),
    [
        (b"\xff\xfb\x90\x64", True),
        (b"\xff\xf3\x44\xc4", True),
        (b"\xff\xfd\x84\x00", True),  # layer II
        (b"\xff\xfb\x90", False),
        (b"\x7f\xfb\x90\x64", False),
        (b"\xff\xeb\x90\x64", False),
        (b"\xff\xf9\x90\x64", False),
        (b"\xff\xfb\xf0\x64", False),
        (b"\xff\xfb\x9c\x64", False),
    ],
)
def test_frames_of_mpeg_audio(header: bytes, begins: bool) -> None:
    assert begins_mpeg_audio(header) == begins


def test_a_database_is_of_no_known_type(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE a (b)")
    database.close()

    assert SNIFFER.contradicts("application/vnd.sqlite3", path.read_bytes()) is None
    assert SNIFFER.contradicts("image/png", path.read_bytes()) == "application/octet-stream"


def test_it_looks_no_further_than_it_says() -> None:
    late = b" " * SNIFFER.head + SCRIPT
    assert SNIFFER.contradicts("text/csv", late[1:]) is None
    assert SNIFFER.contradicts("text/csv", late[len(SCRIPT) :]) == "text/html"


# Beginnings that lead far into the code, for any bytes to follow.
beginnings = st.sampled_from(
    [data[:n] for _, data in GENUINE for n in (4, 12, 40)] + [b"", b"\xff\xfe", b"\xfe\xff", b"<"]
)
types = st.sampled_from([*sorted(SIGNED), *(name for name, _ in GENUINE)]) | st.text()


@given(types, st.builds(bytes.__add__, beginnings, st.binary(max_size=200)))
@example("\0/\ud800", b"\xff\xfe\x00\xd8")
def test_it_never_raises(declared: str | None, head: bytes) -> None:
    found = SNIFFER.contradicts(declared, head)
    assert found is None or found
    # The answer does not depend on what comes after what it wants.
    padded = head.ljust(SNIFFER.head, b" ")
    assert SNIFFER.contradicts(declared, padded) == SNIFFER.contradicts(declared, padded + b"\0")
