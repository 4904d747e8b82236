"""puremagic's tables tell how files of a type begin."""

from __future__ import annotations

import sys

import pytest
from puremagic import main as tables

from starlette_upload_keepalive.limits.media_types import SIGNED
from starlette_upload_keepalive.limits.signatures import Signatures

PNG = b"\x89PNG\r\n\x1a\n"
SIGNATURES = Signatures()


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (PNG, ["image/png"]),
        # One in front of, one behind a length
        (b"RIFF\0\0\0\0WAVE", ["audio/wav"]),
        (b"RIFF\0\0\0\0WEBP", ["image/webp"]),
        # Far from the beginning
        (bytes(257) + b"ustar", ["application/x-tar"]),
        # Two that have nothing to do with each other, the longer one first
        (b"%PDF-1.7".ljust(257) + b"ustar", ["application/x-tar", "application/pdf"]),
        (b"no signature", []),
        (b"", []),
    ],
)
def test_beginnings(head: bytes, found: list[str]) -> None:
    assert SIGNATURES.find(head) == found


def test_less_says_nothing_beside_more() -> None:
    """Less alone does: any of what begins so."""
    assert {"audio/wav", "video/x-msvideo"} <= set(SIGNATURES.find(b"RIFF"))


def test_every_type_has_a_signature() -> None:
    assert {each.name for alike in SIGNATURES._known.values() for each in alike} == SIGNED


def test_the_end_of_what_was_read_is_not_the_end_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_the_end = tables.PureMagic(b"END", -3, ".gif", "image/gif", "")
    monkeypatch.setitem(tables.multi_part_dict, PNG, [at_the_end])
    assert Signatures().find(PNG + b"END") == ["image/png"]


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "puremagic", None)
    with pytest.raises(ImportError, match=r"pip install 'starlette-upload-keepalive\[sniff\]'"):
        Signatures()
