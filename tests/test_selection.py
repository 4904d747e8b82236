"""A handler chooses its files, and which answers accept them."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from starlette_upload_keepalive import Upload, Uploads
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.jobs.selection import Selection


def uploaded(
    field: str = "photo", *, filename: str | None = "a.png", data: bytes = b"", declared: str = ""
) -> Upload:
    blob = Blob(Uploads().storage)
    headers = Headers({"content-type": declared} if declared else {})
    upload = Upload(blob, owner="test", filename=filename, headers=headers, field_name=field)
    blob.fill([data])
    upload.size = len(data)
    upload._let_go()
    return upload


def test_one_job_for_each_file_or_one_for_all() -> None:
    photos = [uploaded(), uploaded()]
    others = [uploaded("cv"), uploaded("photos")]

    assert Selection("photo").groups([*photos, *others], "/") == [[photos[0]], [photos[1]]]
    assert Selection("photo", many=True).groups([*photos, *others], "/") == [photos]
    assert Selection("photo", many=True).groups(others, "/") == []


def test_blank_file_input_is_no_file() -> None:
    """P4: a form field that was left blank runs nothing; an empty file does."""
    blank, empty, unnamed = uploaded(filename=""), uploaded(), uploaded(filename="", data=b"x")

    for many in (False, True):
        assert Selection("photo", many=many).groups([blank], "/") == []
    assert Selection("photo", many=True).groups([blank, empty, unnamed], "/") == [[empty, unnamed]]


@pytest.mark.parametrize(
    ("declared", "patterns", "chosen"),
    [
        ("image/png", ["image/png"], True),
        ("image/png", ["image/*"], True),
        ("image/png", ["text/plain", "image/*"], True),
        ("IMAGE/PNG; name=x", ["image/png"], True),
        ("image/png", ["image/jpeg", "text/*"], False),
        ("", ["image/*"], False),
        ("", [], True),
    ],
)
def test_content_type(declared: str, patterns: list[str], chosen: bool) -> None:
    upload = uploaded(declared=declared)

    selected = Selection("photo", content_types=patterns).groups([upload], "/")

    assert selected == ([[upload]] if chosen else [])


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
    upload = uploaded()

    assert bool(Selection("photo", path=path).groups([upload], requested)) is chosen


@pytest.mark.parametrize(
    ("status", "accepted"),
    [(199, False), (200, True), (299, True), (300, False), (303, False), (304, True), (500, False)],
)
def test_status_that_accepts(status: int, accepted: bool) -> None:
    assert Selection("photo", accept={304}).accepts(status) is accepted
