"""Whatever a client calls its file, the name is safe on every system, and as like it as can be."""

from __future__ import annotations

import os
import re
import string
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starlette_upload_keepalive import Upload
from starlette_upload_keepalive.files.safe_filename import LONGEST, safe_filename, unique_filename
from tests.safe_names import DEVICES, check_name

# What makes names odd, more often than chance would.
odd = st.sampled_from(
    [
        *("/", "\\", "..", ".", " ", "-", "~", "$", ":", "<", "|", "?", "*", '"'),
        *("\0", "\n", "\x1b[31m", "\x7f", "\u200b", "\u202e", "\u2066", "\ufeff", "\u2028"),
        *("\ud800", "\udfff", "\ue000", "\uffff", "\U0010ffff", "\u00a0", "\u3000"),
        *("e\u0301", "\u0301", "<\u0338", "\u037e", "ﬁ", "\u212b", "\uff21", "한", "가"),
        *(".txt", ".tar.gz", ".png", "a", "é", "文", "😀", "x" * 300, "文" * 100, *DEVICES),
    ]
)
names = st.one_of(
    st.text(),
    st.text(st.characters(), max_size=400),  # lone surrogates, too
    st.lists(st.one_of(odd, st.text(max_size=3)), max_size=8).map("".join),
    st.sampled_from(DEVICES).flatmap(lambda name: st.text(max_size=3).map(lambda end: name + end)),
)


@given(names)
@example("..")
@example("CON .txt")
@example("a/\u202eCON")
@example("\u200b.png")
@example("a" * 254 + "/é")
@example("a" * (LONGEST - 4) + " .bc" + "d" * 16)
def test_every_name_is_safe(name: str) -> None:
    safe = safe_filename(name)
    check_name(safe)
    assert safe_filename(safe) == safe


@given(names, st.integers(min_value=80, max_value=LONGEST))
def test_every_name_may_have_to_be_shorter(name: str, longest: int) -> None:
    check_name(safe_filename(name, longest=longest), longest)


@given(names)
def test_every_unique_name_is_safe(name: str) -> None:
    unique = unique_filename(name)
    check_name(unique)
    found = re.search(r"-[0-9a-f]{16}(?=\.\w{1,16}\Z|\Z)", unique)
    assert found
    room = LONGEST - len(found[0])
    assert unique.replace(found[0], "") == safe_filename(name, longest=room)


@given(st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd"]), min_size=1, max_size=40))
def test_letters_and_digits_of_all_scripts_stay(name: str) -> None:
    if name.upper() not in DEVICES:
        assert safe_filename(f"{name}.txt") == unicodedata.normalize("NFC", f"{name}.txt")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        # None, or nothing left.
        (None, "file"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        ("...", "file"),
        ("/", "file"),
        ("photos/", "file"),
        ("-", "file"),
        (" ", "file"),
        ("\0", "file"),
        ("\ud800", "file"),
        (".png", "file.png"),
        ("\u202e.png", "file.png"),
        ("\u3164\u115f\u2800\uffa0\u034f\ufe0f\u17b4.png", "file.png"),
        ("a\u3164b.png", "ab.png"),
        (".htaccess", "file.htaccess"),
        ("- .jpg", "file.jpg"),
        # Paths: the last component counts.
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        (r"C:\x\y", "y"),
        (r"..\..\boot.ini", "boot.ini"),
        (r"\\server\share\report.doc", "report.doc"),
        ("C:evil.txt", "C_evil.txt"),
        ("a/b\\c.txt", "c.txt"),
        ("hax0rd.txt/../", "file"),
        ("/../hax0rd.txt", "hax0rd.txt"),
        ("C:/../hax0rd.txt", "hax0rd.txt"),
        # What can't be seen goes.
        ("a\0b.txt", "ab.txt"),
        ("\x1b[31mred.txt", "[31mred.txt"),
        ("two\nlines.txt", "twolines.txt"),
        ("gpj\u202egnp.exe", "gpjgnp.exe"),
        ("zero\u200bwidth.txt", "zerowidth.txt"),
        ("\ufeffbom.txt", "bom.txt"),
        ("lone\ud800.txt", "lone.txt"),
        ("private\ue000.txt", "private.txt"),
        ("a\u2028b\u2029c.txt", "abc.txt"),
        # Spaces.
        ("My cool movie.mov", "My cool movie.mov"),
        ("no\u00a0break\u3000wide.txt", "no break wide.txt"),
        (" around .txt ", "around.txt"),
        # First and last.
        ("-rf", "rf"),
        ("--help.txt", "help.txt"),
        ("~root", "root"),
        ("$Mft", "Mft"),
        (".hidden.txt", "hidden.txt"),
        ("trailing.", "trailing"),
        ("trailing. . .", "trailing"),
        ("dots..txt", "dots.txt"),
        # What Windows refuses.
        ('a<b>c:d"e|f?g*h.txt', "a_b_c_d_e_f_g_h.txt"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("NUL.tar.gz", "_NUL.tar.gz"),
        ("Lpt9.", "_Lpt9"),
        ("COM¹.log", "_COM¹.log"),
        ("CON .txt", "_CON.txt"),
        ("conin$", "_conin$"),
        ("x/.aux.h", "_aux.h"),
        ("CONSOLE.txt", "CONSOLE.txt"),
        ("COM10", "COM10"),
        # Letters stay, composed.
        ("Übung für Élise.pdf", "Übung für Élise.pdf"),
        ("e\u0301te\u0301.txt", "été.txt"),
        ("哈哈.zip", "哈哈.zip"),
        ("отчёт.docx", "отчёт.docx"),
        ("😀.gif", "😀.gif"),
        # As others have them in their tests.
        ("i contain cool \xfcml\xe4uts.txt", "i contain cool ümläuts.txt"),
        ("__filename__", "__filename__"),
        ("foo$&^*)bar", "foo$&^_)bar"),
        ("100% done & dusted;rm -rf.txt", "100% done & dusted;rm -rf.txt"),
        # Suffixes.
        ("archive.tar.gz", "archive.tar.gz"),
        ("Mr. Smith", "Mr. Smith"),
        ("v1.2", "v1.2"),
    ],
)
def test_examples(name: str | None, safe: str) -> None:
    assert safe_filename(name) == safe
    check_name(safe)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "form", ["{}", "{}.txt", "{}.tar.gz", "{} .x", "{} .tar.gz", "x/{}", "{}. "]
)
def test_no_name_is_a_device_of_windows(device: str, form: str) -> None:
    for name in (device, device.lower(), device.capitalize()):
        safe = safe_filename(form.format(name))
        check_name(safe)
        assert safe.startswith(f"_{name}")


@pytest.mark.parametrize("letter", ["a", "é", "文", "😀"])
@pytest.mark.parametrize("suffix", [".jpeg", ".文文", ""])
def test_long_names_are_cut_before_their_suffix(letter: str, suffix: str, tmp_path: Path) -> None:
    safe = safe_filename(letter * 3900 + suffix)
    check_name(safe)
    assert safe.endswith(letter + suffix)
    assert len(safe.encode()) > LONGEST - 4
    (tmp_path / safe).touch()
    assert os.listdir(tmp_path) == [safe]


def test_a_suffix_too_long_to_be_one_is_cut() -> None:
    assert safe_filename("a." + "b" * 3900) == "a." + "b" * 253


def test_a_cut_leaves_no_space_at_the_end() -> None:
    check_name(safe_filename("a" * (LONGEST - 1) + " " + "b" * 100))


@pytest.mark.parametrize("suffix", ["", ".txt"])
@pytest.mark.parametrize("name", ["CON.{}", "COM¹.{}", "CON .{}", "CON{}"])
def test_a_long_name_of_a_device_is_cut(name: str, suffix: str) -> None:
    """What is put before it has to fit, too; and the cut may be what makes it one."""
    for letter in ("a", "é", " "):
        long = name.format(letter * 300 + "b") + suffix
        check_name(safe_filename(long))
        check_name(unique_filename(long))


def test_all_of_unicode(tmp_path: Path) -> None:
    """Each character by itself, in the middle and at the ends."""
    for code in range(0x110000):
        character = chr(code)
        safe = safe_filename(character)
        assert safe
        if character not in string.printable and safe != "file":
            assert safe == unicodedata.normalize("NFC", character)
    check_name(safe_filename("".join(map(chr, range(0x3000)))))


def test_unique_names_differ() -> None:
    made = {unique_filename("a.txt") for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"a-[0-9a-f]{16}\.txt", name) for name in made)


def test_the_name_of_an_upload() -> None:
    with Upload.from_bytes(b"", filename="../../a.txt", content_type="text/plain") as upload:
        assert upload.safe_filename == "a.txt"
        upload.filename = None
        assert upload.safe_filename == "file"
