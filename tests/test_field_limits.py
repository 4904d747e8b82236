"""What the files of a field may be is found by field, path and declared media type."""

from __future__ import annotations

import math
from typing import Any

import pytest

from starlette_upload_keepalive import FieldLimits, FileTooLarge, UnsupportedFileType
from starlette_upload_keepalive.limits.field_limits import FileRule, FormLimits
from starlette_upload_keepalive.limits.file_match import FileMatch

PNG = {"content-type": "image/png"}
PDF = {"content-type": "application/pdf"}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"field": ""}, "field must be the name of a form field"),
        ({"field": "photo", "max_size": 0}, "max_size must be 1 byte or more"),
        ({"field": "photo", "content_type": "png"}, "content_type must be like 'image/\\*'"),
        (
            {"field": "photo", "content_type": []},
            "content_type has no media type: to take any",
        ),
        ({"field": "photo", "path": "photos"}, "path must start with '/'"),
    ],
)
def test_what_are_none(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        FieldLimits(**options)


def test_no_rule_is_no_limit() -> None:
    assert FormLimits().of("photo", PNG).max_size == math.inf


def test_the_least_of_all_that_apply() -> None:
    photos = FieldLimits("photo", max_size=100).rule
    images = FileRule(FileMatch("photo", content_types=["image/*"]), 10)
    limits = FormLimits([photos, images], max_file_size=1000)

    assert limits.of("photo", PNG).max_size == 10
    assert limits.of("photo", PDF).max_size == 100
    assert limits.of("cv", PDF).max_size == 1000
    assert FormLimits([photos]).of("cv", PDF).max_size == math.inf


def test_a_type_that_is_not_taken() -> None:
    limits = FormLimits([FieldLimits("photo", content_type=["image/png", "image/gif"]).rule])

    assert not limits.of("photo", PNG).instead
    assert not limits.of("cv", PDF).instead
    for headers in (PDF, {}):
        refusal = limits.of("photo", headers).refusal("photo")
        assert isinstance(refusal, UnsupportedFileType)
        assert refusal.status_code == 415
        assert refusal.detail == (
            "The file of the field 'photo' is of a type that is not taken. "
            "It may be image/png or image/gif."
        )


def test_a_refusal_names_field_and_limit() -> None:
    refusal = FormLimits(max_file_size=10_000).of("photo", PNG).refusal("p" * 1000)

    assert isinstance(refusal, FileTooLarge)
    assert (refusal.status_code, refusal.max_size) == (413, 10_000)
    assert refusal.detail == (
        f"The file of the field '{'p' * 100}' is too large: it may have 10,000 bytes at most."
    )
