"""What a client has chosen begins no line of a log and controls no terminal."""

from __future__ import annotations

import pytest

from starlette_upload_keepalive.files.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b/ü-日.txt", "a b/ü-日.txt"),
        ("", ""),
        ("\x1b[2J\r\n\x00\x7f\x9b", r"\x1b[2J\r\n\x00\x7f\x9b"),
        ("\u2028\u00a0\u200b\u202e\U000e0001", r"\u2028\xa0\u200b\u202e\U000e0001"),
        ("\ud800", r"\ud800"),
        ("\\x1b", r"\\x1b"),  # not what stands for the character
    ],
)
def test_what_can_not_be_printed_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_no_character_that_controls_is_left() -> None:
    for code in range(0x110000):
        assert printable(chr(code)).isprintable()


def test_long_text_is_cut_off_before_it_is_escaped() -> None:
    assert printable("abc", 3) == "abc"
    assert printable("abcd", 3) == "abc…"
    assert printable("\n" * 100, 2) == r"\n\n…"
