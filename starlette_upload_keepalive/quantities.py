"""Units, and checks of options that tell how much."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

LONGEST_WAIT = 1_000_000_000
"""The most seconds that anything may be put off: dates end before long beyond it."""

# Any less is 0 in the event loop's clock.
_LEAST_SECONDS = 1e-9


def check_least(name: str, value: object, least: int, unit: str = "") -> None:
    """Check an option that is a whole number.

    Args:
        name: The option.
        value: What was given.
        least: The least that it may be.
        unit: What it counts, for the error.

    Raises:
        ValueError: It is no whole number, or less.
    """
    if type(value) is not int or value < least:
        whole = "" if type(value) is int else "a whole number, "
        raise ValueError(f"{name} must be {whole}{least:,}{unit} or more, not {value!r}.")


def check_seconds(name: str, value: object, *, zero: bool) -> None:
    """Check an option in seconds.

    Args:
        name: The option.
        value: What was given.
        zero: Whether it may be 0.

    Raises:
        ValueError: It is out of that range, or no number.
    """
    if (
        not isinstance(value, (int, float))
        or isinstance(value, bool)
        or not (0 if zero else _LEAST_SECONDS) <= value <= LONGEST_WAIT
    ):
        least = "0 seconds or more" if zero else "more than 0 seconds"
        most = f"and at most {LONGEST_WAIT:,}"
        raise ValueError(f"{name} must be {least}, {most}, not {value!r}.")
