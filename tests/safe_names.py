"""What makes the name of a file a safe one.

pathvalidate knows what each system refuses; we go further.
"""

from __future__ import annotations

import unicodedata

from pathvalidate import Platform, validate_filename

from starlette_upload_keepalive.files.safe_filename import LONGEST

DEVICES = [
    *("CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"),
    *(f"{name}{digit}" for name in ("COM", "LPT") for digit in "0123456789¹²³"),
]


def check_name(name: str, longest: int = LONGEST) -> None:
    """Fail if a name is not safe."""
    validate_filename(name, platform=Platform.UNIVERSAL)
    for platform in (Platform.LINUX, Platform.MACOS, Platform.WINDOWS, Platform.POSIX):
        validate_filename(name, platform=platform)
    # Further than that:
    assert 0 < len(name.encode()) <= longest
    assert name == unicodedata.normalize("NFC", name)
    assert name[0] not in " .-~$"
    assert name[-1] not in " ."
    assert not set(name) & set('/\\<>:"|?*')
    for character in name:
        category = unicodedata.category(character)
        assert category[0] != "C"
        assert category not in {"Zl", "Zp"}
        assert category != "Zs" or character == " "
    device = name.partition(".")[0].rstrip(" ").upper()
    assert device not in DEVICES
