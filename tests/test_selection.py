"""A handler chooses its files, and which answers accept them."""

from __future__ import annotations

import pytest

from starlette_upload_keepalive import Upload, Uploads
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.jobs.selection import Selection
from starlette_upload_keepalive.limits.file_match import FileMatch

PHOTOS = FileMatch("photo")


def uploaded(field: str = "photo", *, filename: str | None = "a.png", data: bytes = b"") -> Upload:
    blob = Blob(Uploads().storage)
    upload = Upload(blob, owner="test", filename=filename, field_name=field)
    blob.fill([data])
    upload.size = len(data)
    upload._let_go()
    return upload


def test_one_job_for_each_file_or_one_for_all() -> None:
    photos = [uploaded(), uploaded()]
    others = [uploaded("cv"), uploaded("photos")]

    assert Selection(PHOTOS).groups([*photos, *others], "/") == [[photos[0]], [photos[1]]]
    assert Selection(PHOTOS, many=True).groups([*photos, *others], "/") == [photos]
    assert Selection(PHOTOS, many=True).groups(others, "/") == []


def test_blank_file_input_is_no_file() -> None:
    """P4: a form field that was left blank runs nothing; an empty file does."""
    blank, empty, unnamed = uploaded(filename=""), uploaded(), uploaded(filename="", data=b"x")

    for many in (False, True):
        assert Selection(PHOTOS, many=many).groups([blank], "/") == []
    assert Selection(PHOTOS, many=True).groups([blank, empty, unnamed], "/") == [[empty, unnamed]]


@pytest.mark.parametrize(
    ("status", "accepted"),
    [(199, False), (200, True), (299, True), (300, False), (303, False), (304, True), (500, False)],
)
def test_status_that_accepts(status: int, accepted: bool) -> None:
    assert Selection(PHOTOS, accept={304}).accepts(status) is accepted
