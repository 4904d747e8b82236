"""What goes into a job and comes out of it is JSON, and not too much."""

from __future__ import annotations

import math
from typing import Any

import pytest

from starlette_upload_keepalive import ArgumentsTooLarge, ResultTooLarge
from starlette_upload_keepalive.jobs.arguments import (
    MAX_ARGUMENTS_SIZE,
    MAX_RESULT_SIZE,
    Arguments,
    through_json,
)


def test_arguments_are_copied() -> None:
    """The handler sees what was submitted, whatever the caller does to it afterwards."""
    sizes = [1, 2]
    arguments = Arguments([sizes], {"crop": (3, 4)})
    sizes.append(5)
    for _ in range(2):
        positional, named = arguments.fresh()
        assert (positional, named) == ([[1, 2]], {"crop": [3, 4]})
        positional[0].clear()
        named.clear()


def test_no_arguments() -> None:
    assert Arguments().fresh() == ([], {})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"bytes", "Object of type bytes is not JSON serializable"),
        ({1, 2}, "Object of type set is not JSON serializable"),
        (math.nan, "Out of range float values are not JSON compliant"),
    ],
)
def test_arguments_that_are_not_json(value: object, reason: str) -> None:
    for positional, named in [([value], {}), ([], {"deep": [{"in": value}]})]:
        with pytest.raises(TypeError, match=r"^The arguments of a job must be JSON") as caught:
            Arguments(positional, named)
        assert reason in str(caught.value)


def test_value_that_is_too_deep_is_not_json() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]

    with pytest.raises(TypeError, match=r"must be JSON .* recursion"):
        through_json(value, "It")


def test_circular_value_is_not_json() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(TypeError, match=r"must be JSON .* Circular reference"):
        through_json(value, "It")


def test_largest_arguments() -> None:
    """The record of a job must be one that its spool reads again."""
    largest = "x" * (MAX_ARGUMENTS_SIZE - len('[[""], {}]'))
    assert MAX_ARGUMENTS_SIZE == 1024 * 1024
    assert Arguments([largest]).fresh() == ([largest], {})
    with pytest.raises(ArgumentsTooLarge, match=r"are 1048577 bytes of JSON, more than 1048576: "):
        Arguments([largest + "x"])


def test_largest_result() -> None:
    largest = "x" * (MAX_RESULT_SIZE - len('""'))

    assert MAX_RESULT_SIZE == 65536
    assert through_json(largest, "It", MAX_RESULT_SIZE) == largest
    with pytest.raises(ResultTooLarge, match=r"^It is 65537 bytes of JSON, more than 65536: store"):
        through_json(largest + "x", "It", MAX_RESULT_SIZE)


def test_size_of_a_result_is_in_bytes() -> None:
    with pytest.raises(ResultTooLarge):
        through_json("\N{SNOWMAN}" * (MAX_RESULT_SIZE // 2), "It", MAX_RESULT_SIZE)
