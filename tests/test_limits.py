"""The limits of an app are checked when it is made."""

from __future__ import annotations

from typing import Any

import pytest

from starlette_upload_keepalive import FieldLimits, Limits, Uploads


def test_defaults_are_limits() -> None:
    """P7: what takes memory, files, places or jobs is bounded unless the user says otherwise."""
    limits = Limits()

    assert limits.max_concurrency == 1000
    assert limits.max_pending_jobs == 10_000
    assert limits.min_free_space == 64 * 1024 * 1024
    assert limits.receive_timeout == 60


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_file_size": 0}, "max_file_size must be 1 byte or more, not 0"),
        (
            {"max_request_size": "10 MB"},
            "max_request_size must be a whole number, 1 byte or more, not '10 MB'",
        ),
        ({"max_concurrency": 0}, "max_concurrency must be 1 or more"),
        ({"max_open_files": 0}, "max_open_files must be 1 or more"),
        ({"max_disk_bytes": 0}, "max_disk_bytes must be 1 byte or more"),
        ({"max_pending_jobs": -1}, "max_pending_jobs must be 1 job or more"),
        ({"min_free_space": -1}, "min_free_space must be 0 bytes or more"),
        ({"receive_timeout": 0}, "receive_timeout must be more than 0 seconds"),
        ({"min_rate": 0}, "min_rate must be 1 byte a second or more"),
        ({"min_rate": 10, "receive_timeout": None}, "min_rate needs a receive_timeout"),
    ],
)
def test_what_is_no_limit(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Limits(**options)


def test_what_are_no_limits() -> None:
    given: Any = {"max_file_size": 10}
    with pytest.raises(TypeError, match=r"limits must be a Limits, such as Limits\(\), not"):
        Uploads(limits=given)
    with pytest.raises(TypeError, match=r"fields must be a list of FieldLimits"):
        Uploads(fields=given)
    with pytest.raises(TypeError, match=r"fields must be a list of FieldLimits"):
        Uploads(fields=FieldLimits("photo"))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
