"""What a handler or a limit is for is found by field, path and declared media type."""

from __future__ import annotations

from typing import Any

import pytest

from starlette_upload_keepalive.limits.file_match import FileMatch, patterns_of


def test_field() -> None:
    photos = FileMatch("photo")

    assert photos.chooses("photo", None)
    assert not photos.chooses("photos", None)
    assert not photos.chooses(None, None)


@pytest.mark.parametrize(
    ("declared", "patterns", "chosen"),
    [
        ("image/png", ["image/png"], True),
        ("image/png", ["image/*"], True),
        ("image/png", ["text/plain", "image/*"], True),
        ("IMAGE/PNG; name=x", ["image/png"], True),
        ("image/png", ["image/jpeg", "text/*"], False),
        (None, ["image/*"], False),
        (None, [], True),
    ],
)
def test_content_type(declared: str | None, patterns: list[str], chosen: bool) -> None:
    assert FileMatch("photo", content_types=patterns).chooses("photo", declared) is chosen


@pytest.mark.parametrize(
    ("path", "requested", "chosen"),
    [
        (None, "/anything", True),
        ("/photos", "/photos", True),
        ("/photos", "/photos/1", False),
        ("/users/{id:int}/photos", "/users/7/photos", True),
        ("/users/{id:int}/photos", "/users/seven/photos", False),
        ("/files/{rest:path}", "/files/a/b", True),
    ],
)
def test_path(path: str | None, requested: str, chosen: bool) -> None:
    assert FileMatch("photo", path).is_on(requested) is chosen


@pytest.mark.parametrize(
    ("field", "path", "patterns", "why"),
    [
        ("", None, [], "field must be the name"),
        ("photo", "photos", [], "path must start with '/'"),
        ("photo", "/{id:nothing}", [], "is not one of a route"),
        ("photo", None, ["png"], "content_type must be like 'image/\\*', not 'png'"),
        ("photo", None, [" image/png"], "content_type must be like 'image/\\*', not ' image/png'"),
        ("photo", None, ["text/csv; x=y"], "content_type must be like"),
    ],
)
def test_what_is_none(field: str, path: str | None, patterns: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        FileMatch(field, path, patterns)


def test_patterns_are_strings() -> None:
    assert patterns_of("Image/*") == patterns_of(["image/*"]) == ("image/*",)
    assert patterns_of(None) == ()
    given: Any = [3]
    with pytest.raises(TypeError, match="content_type must be a string or a list of them"):
        patterns_of(given)
