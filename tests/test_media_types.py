"""One type has several names, and clients use them all."""

from __future__ import annotations

import pytest

from starlette_upload_keepalive.limits.media_types import (
    SIGNED,
    canonical,
    essence,
    is_picture_or_sound,
    is_text,
    is_untold,
    is_xml,
)


def test_essence_has_no_parameters_and_small_letters() -> None:
    assert essence(" Text/HTML ; charset=utf-8; x=y") == "text/html"
    assert essence(None) == essence("") == essence(";charset=utf-8") == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("image/jpg", "image/jpeg"),
        ("application/x-zip-compressed", "application/zip"),
        ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "application/zip"),
        ("application/vnd.ms-excel.sheet.macroenabled.12", "application/zip"),
        ("application/vnd.oasis.opendocument.text", "application/zip"),
        ("application/epub+zip", "application/zip"),
        ("application/java-archive", "application/zip"),
        ("audio/x-wav", "audio/wav"),
        ("video/quicktime", "video/mp4"),
        ("image/avif", "image/heif"),
        ("application/msword", "application/x-ole-storage"),
        # XML in one file, and no container
        (
            "application/vnd.oasis.opendocument.text-flat-xml",
            "application/vnd.oasis.opendocument.text-flat-xml",
        ),
        ("application/x-unknown", "application/x-unknown"),
        ("", ""),
    ],
)
def test_one_name_of_several(name: str, expected: str) -> None:
    assert canonical(name) == expected
    assert canonical(expected) == expected


def test_types_with_a_signature_are_no_text() -> None:
    assert not [name for name in SIGNED if is_text(name) or is_untold(name)]
    assert {canonical(name) for name in SIGNED} == SIGNED


@pytest.mark.parametrize(
    "name",
    ["text/csv", "image/svg+xml", "application/json", "application/ld+json", "application/x-sh"],
)
def test_text(name: str) -> None:
    assert is_text(name)


@pytest.mark.parametrize("name", ["", "text", "application/x-shockwave-flash", "video/mp4"])
def test_no_text(name: str) -> None:
    assert not is_text(name)


def test_kinds() -> None:
    assert [is_xml(name) for name in ("text/xml", "image/svg+xml", "text/html")] == [1, 1, 0]
    assert [is_picture_or_sound(name) for name in ("font/x", "audio/x", "model/x")] == [1, 1, 0]
    assert [is_untold(name) for name in ("", "application/octet-stream", "text/x")] == [1, 1, 0]
