"""Which errors are tried again, and after how long."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from starlette_upload_keepalive import Discard, HandlerRaised, Retry, RetryLater
from starlette_upload_keepalive.jobs.retry import kinds_in, leaves, verb_in

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


MOST = "and at most 1,000,000,000"


def group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("several", errors)


@pytest.mark.parametrize(
    ("retry", "waits"),
    [
        (Retry(wait_jitter=0), [1, 2, 4, 8]),
        (Retry(wait_initial=0.5, wait_factor=3, wait_jitter=0), [0.5, 1.5, 4.5, 13.5]),
        (Retry(wait_initial=2, wait_factor=1, wait_jitter=0), [2, 2, 2, 2]),
        (Retry(wait_initial=4, wait_max=10, wait_jitter=0), [4, 8, 10, 10]),
        (Retry(wait_initial=9, wait_max=5, wait_jitter=0), [5, 5, 5, 5]),
        (Retry(wait_initial=0), [0, 0, 0, 0]),
    ],
)
def test_waits_grow_up_to_a_limit(retry: Retry, waits: list[float]) -> None:
    assert [retry.wait(failures, 0.3) for failures in (1, 2, 3, 4)] == waits


@pytest.mark.parametrize("jitter", [0, 0.5, 1])
def test_chance_shortens_a_wait_by_its_share_at_most(jitter: float) -> None:
    retry = Retry(wait_initial=8, wait_jitter=jitter)
    assert retry.wait(1, 0) == 8
    assert retry.wait(1, 1) == 8 * (1 - jitter)


def test_the_thousandth_wait_is_the_longest() -> None:
    assert Retry(wait_factor=1e9, wait_jitter=0).wait(1000, 0) == 600


@pytest.mark.parametrize(
    ("error", "covered"),
    [
        (ConnectionResetError(), True),
        (OSError(), True),
        (FileNotFoundError(), False),
        (ValueError(), False),
        (KeyboardInterrupt(), False),
        (SystemExit(), False),
        (group(OSError(), ConnectionResetError()), True),
        (group(OSError(), group(TimeoutError())), True),
        (group(OSError(), ValueError()), False),
        (group(OSError(), group(FileNotFoundError())), False),
    ],
    ids=repr,
)
def test_errors_that_are_tried_again(error: BaseException, covered: bool) -> None:
    retry = Retry(retry_on=OSError, give_up_on=(FileNotFoundError, PermissionError))
    assert retry.covers(error) is covered


def test_by_default_every_exception_is_tried_again_and_no_exit() -> None:
    assert Retry().covers(ValueError())
    assert not Retry().covers(SystemExit())
    assert not Retry().covers(group(ValueError(), SystemExit()))


@pytest.mark.parametrize(
    ("error", "verb"),
    [
        (ValueError(), None),
        (RetryLater(5), 5),
        (Discard("no"), "no"),
        (group(RetryLater(5), group(RetryLater(7))), 7),
        (group(RetryLater(5), Discard("no")), "no"),
        # What else is in there must not be lost.
        (group(RetryLater(5), ValueError()), None),
    ],
    ids=repr,
)
def test_verb_in_an_error(error: BaseException, verb: object) -> None:
    found = verb_in(error)
    assert (found and (found.reason if isinstance(found, Discard) else found.seconds)) == verb


def test_leaves_of_a_group() -> None:
    errors = [ValueError(), OSError(), KeyError()]
    assert list(leaves(group(errors[0], group(errors[1], errors[2])))) == errors


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"attempts": 0}, "attempts must be 1 or more, not 0."),
        ({"attempts": 2.5}, "attempts must be a whole number, 1 or more, not 2.5."),
        ({"attempts": True}, "attempts must be a whole number, 1 or more, not True."),
        (
            {"wait_initial": -1},
            f"wait_initial must be 0 seconds or more, {MOST}, not -1.",
        ),
        (
            {"wait_max": float("inf")},
            f"wait_max must be 0 seconds or more, {MOST}, not inf.",
        ),
        (
            {"wait_max": float("nan")},
            f"wait_max must be 0 seconds or more, {MOST}, not nan.",
        ),
        ({"wait_factor": 0.5}, "wait_factor must be 1 or more, not 0.5."),
        ({"wait_jitter": 1.1}, "wait_jitter must be from 0 to 1, not 1.1."),
    ],
)
def test_number_out_of_range(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared
        Retry(**option)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["retry_on", "give_up_on"])
@pytest.mark.parametrize("given", ["OSError", int, (OSError, "x"), [OSError], OSError()])
def test_what_is_no_exception_class(name: str, given: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be an exception class, or several, not "):
        Retry(**{name: given})


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
def test_retry_later_of_no_time(seconds: float) -> None:
    with pytest.raises(
        ValueError,
        match=f"^seconds must be 0 or more, {MOST}, not {seconds!r}.$",
    ):
        RetryLater(seconds)


class Special(OSError): ...


@pytest.mark.parametrize(
    "retry",
    [
        Retry(),
        Retry(retry_on=OSError),
        Retry(retry_on=(KeyError, Special)),
        Retry(retry_on=(OSError, ValueError)),
        Retry(retry_on=ValueError),
        Retry(give_up_on=OSError),
        Retry(give_up_on=(KeyError, ValueError)),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "error",
    [
        Special(),
        SystemExit(),
        group(Special(), ValueError()),
        group(Special(), group(KeyError())),
    ],
    ids=repr,
)
def test_what_another_process_has_raised_counts_as_what_it_was(
    retry: Retry, error: BaseException
) -> None:
    told = HandlerRaised("as it was", kinds_in(error))
    assert retry.covers(told) is retry.covers(error)
