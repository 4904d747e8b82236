"""A name for a file, safe on every system, out of one that a client gave."""

from __future__ import annotations

import re
import secrets
import unicodedata

LONGEST = 255
"""The most bytes that a filesystem takes for one name: ext4, APFS, NTFS (there, UTF-16 units)."""

_FALLBACK = "file"
_SEPARATORS = re.compile(r"[/\\]")
# What Windows refuses (Microsoft, "Naming Files, Paths, and Namespaces").
_REFUSED = re.compile(r'[<>:"|?*]')
# Hidden files, options of programs, what shells and NTFS take for their own.
_NOT_FIRST = " .-~$"
_NOT_LAST = " ."
_SUFFIX = re.compile(r"\.\w{1,16}")
# Letters and marks that nothing is drawn for: Unicode's Default_Ignorable_Code_Point that is in no
# category of such, and the empty pattern of Braille.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
# Devices of Windows, whatever follows after a dot; and it takes ¹²³ for digits there.
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)


def safe_filename(name: str | None, *, longest: int = LONGEST) -> str:
    """Make a name of which nobody needs to be afraid, as like the given one as it can be.

    It is one component of a path on Linux, macOS and Windows, never empty, and
    has no characters that can't be seen. Letters of all scripts stay (NFC).

    Args:
        name: What a client gave.
        longest: The most bytes in UTF-8. The suffix is kept.
    """
    last = _SEPARATORS.split(name or "")[-1]
    visible = "".join(map(_visible, _BLANK.sub("", last)))
    plain = _REFUSED.sub("_", unicodedata.normalize("NFC", visible)).rstrip(_NOT_LAST)
    stem, suffix = _split(plain)
    room = longest - len(suffix.encode())
    stem = _cut(stem.lstrip(_NOT_FIRST), room)
    if _DEVICE.fullmatch(stem.partition(".")[0].rstrip(" ")):  # also if the cut has made it one
        stem = _cut(f"_{stem}", room)
    if not suffix:
        stem, suffix = _split(stem)  # the cut may have made one
        stem = stem.rstrip(_NOT_LAST)
    return (stem or _FALLBACK) + suffix


def unique_filename(name: str | None) -> str:
    """Make such a name with 16 random hex digits before its suffix, so that nobody else has it."""
    unique = f"-{secrets.token_hex(8)}"
    stem, suffix = _split(safe_filename(name, longest=LONGEST - len(unique)))
    return f"{stem}{unique}{suffix}"


def _visible(character: str) -> str:
    """Return nothing for what can't be seen, and a space for every kind of space."""
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    # Controls, formats such as those of direction, surrogates, private and unassigned ones; breaks.
    return "" if category[0] == "C" or category in {"Zl", "Zp"} else character


def _split(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.rpartition(".")
    if dot and _SUFFIX.fullmatch(dot + suffix):
        return stem, dot + suffix
    return name, ""


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore").rstrip(_NOT_LAST)
