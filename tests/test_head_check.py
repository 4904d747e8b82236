"""The first bytes of a file are collected, and checked once."""

from __future__ import annotations

import pytest

from starlette_upload_keepalive import UnsupportedFileType
from starlette_upload_keepalive.limits.head_check import HeadCheck
from starlette_upload_keepalive.limits.sniffing import Sniffer

GIF = b"GIF89a".ljust(3000, b"\0")


def check(content_type: str = "image/gif") -> HeadCheck:
    return HeadCheck(Sniffer(), "photo", content_type)


@pytest.mark.parametrize("size", [1, 100, 1445, 3000])
def test_it_is_done_once_it_has_seen_enough(size: int) -> None:
    head = check()
    pieces = [GIF[start : start + size] for start in range(0, len(GIF), size)]
    done = [head.add(piece) for piece in pieces[: -(-1445 // size)]]
    assert done == [False] * (len(done) - 1) + [True]
    assert head.wanted == 0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"<html>", "does not begin like what it is declared as, but like text/html"),
        (b"\0\1\2", "does not begin like what it is declared as"),
    ],
)
def test_what_is_wrong_is_told(data: bytes, why: str) -> None:
    head = check()
    assert not head.add(data)
    with pytest.raises(UnsupportedFileType) as refused:
        head.check()
    assert refused.value.detail == f"The file of the field 'photo' {why}."
    assert (refused.value.status_code, refused.value.taken) == (415, ())


def test_a_short_file_is_checked_at_its_end() -> None:
    head = check()
    head.add(GIF[:100])
    head.check()
