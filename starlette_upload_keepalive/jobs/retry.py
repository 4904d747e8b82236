"""When a handler that has raised is tried again."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import cast

from starlette_upload_keepalive.exceptions import Discard, HandlerRaised, RetryLater
from starlette_upload_keepalive.quantities import check_least, check_seconds

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

Errors = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True)
class Retry:
    """How often a handler that raises is tried, and how long to wait in between.

    The wait before attempt ``n + 1`` is ``wait_initial * wait_factor ** (n - 1)``
    seconds, at most ``wait_max``. A share of it is left to chance, so that what
    failed together is not tried again together (AWS Architecture Blog,
    "Exponential Backoff And Jitter").

    Args:
        attempts: How often in all, the first time included.
        wait_initial: The seconds before the second attempt.
        wait_factor: How many times longer each wait is than the one before.
        wait_max: The seconds that no wait exceeds.
        wait_jitter: The share of each wait that is left to chance: 0 none, 1 all.
        retry_on: Errors to be tried again. An exception group counts as what
            it holds, all of it.
        give_up_on: Errors that are not, although ``retry_on`` has them.

    Raises:
        ValueError: A number is out of its range.
        TypeError: What is no exception class is given as one.
    """

    attempts: int = 3
    _: KW_ONLY
    wait_initial: float = 1.0
    wait_factor: float = 2.0
    wait_max: float = 600.0
    wait_jitter: float = 0.5
    retry_on: Errors = Exception
    give_up_on: Errors = ()

    def __post_init__(self) -> None:
        check_least("attempts", self.attempts, 1)
        check_seconds("wait_initial", self.wait_initial, zero=True)
        check_seconds("wait_max", self.wait_max, zero=True)
        if not 1 <= self.wait_factor < math.inf:
            raise ValueError(f"wait_factor must be 1 or more, not {self.wait_factor!r}.")
        if not 0 <= self.wait_jitter <= 1:
            raise ValueError(f"wait_jitter must be from 0 to 1, not {self.wait_jitter!r}.")
        for name in ("retry_on", "give_up_on"):
            _check_errors(name, getattr(self, name))

    def covers(self, error: BaseException) -> bool:
        """Whether the error is to be tried again."""
        if isinstance(error, HandlerRaised):  # its classes are known by name
            retried, given_up = _names(self.retry_on), _names(self.give_up_on)
            return all(
                not retried.isdisjoint(kinds) and given_up.isdisjoint(kinds)
                for kinds in error.kinds
            )
        return all(
            isinstance(leaf, self.retry_on) and not isinstance(leaf, self.give_up_on)
            for leaf in leaves(error)
        )

    def wait(self, failures: int, chance: float) -> float:
        """Return how many seconds to wait.

        Args:
            failures: How many attempts have failed: 1 or more.
            chance: What is left to chance, from 0 to 1.
        """
        try:
            longest = min(self.wait_max, self.wait_initial * self.wait_factor ** (failures - 1))
        except OverflowError:
            longest = self.wait_max if self.wait_initial else 0
        return longest * (1 - self.wait_jitter * chance)


def kinds_in(error: BaseException) -> list[list[str]]:
    """Name the classes of an error, or of those that a group holds, for `HandlerRaised`."""
    classes = dict.fromkeys(type(leaf) for leaf in leaves(error))  # a group may hold thousands
    return [[_name(base) for base in each.__mro__] for each in classes]


def _names(errors: Errors) -> set[str]:
    return {_name(each) for each in (errors if isinstance(errors, tuple) else (errors,))}


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def verb_in(error: BaseException) -> RetryLater | Discard | None:
    """Return the verb that was raised, or the weightiest if a group is made of nothing else."""
    verbs = list[RetryLater | Discard]()
    for leaf in leaves(error):
        if not isinstance(leaf, (RetryLater, Discard)):
            return None
        verbs.append(leaf)
    return max(verbs, key=lambda verb: math.inf if isinstance(verb, Discard) else verb.seconds)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Go over the errors of a group, and of groups within; over the error itself if it is none."""
    left, seen = [error], set[int]()
    while left:
        each = left.pop()
        if isinstance(each, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", each)
            if id(group) not in seen:  # it may hold itself
                seen.add(id(group))
                left.extend(reversed(group.exceptions))
        else:
            yield each


def _check_errors(name: str, given: object) -> None:
    for each in cast("tuple[object, ...]", given) if isinstance(given, tuple) else (given,):
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"{name} must be an exception class, or several, not {each!r}.")
