"""Checks a spool against every promise of its protocol."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette_upload_keepalive.jobs.spool import Spool

from . import one_owner, several_owners
from .case import Case, open_case


def check_spool(
    make: Callable[[], Spool],
    *,
    beside: Callable[[Spool], Spool] | None = None,
    crash: Callable[[Spool], None] | None = None,
) -> None:
    """Check that a spool keeps every promise of `Spool`. Blocks.

    Args:
        make: Makes a spool that is empty, and not open.
        beside: Makes another owner of the jobs of a spool, not open. A durable spool needs it.
        crash: Ends an owner as the death of its process would. A durable spool needs it.

    Raises:
        AssertionError: A promise is broken. It says which.
        ValueError: The spool is durable, and `beside` or `crash` is missing.
    """
    if make().durable and (beside is None or crash is None):
        raise ValueError("A durable spool is checked with beside= and crash=.")
    for in_memory in (True, False):
        for check in one_owner.CHECKS:
            with open_case(make, in_memory=in_memory) as case:
                check(case)
        if beside is None:
            continue
        for check_both in several_owners.CHECKS:
            with open_case(make, in_memory=in_memory) as case:
                check_both(case, case.open(beside(case.spool)))
        if crash is None:
            continue
        for check_after in several_owners.AFTER_A_CRASH:
            with open_case(make, in_memory=in_memory) as case:
                check_after(case, partial(_crashed, case, beside, crash))


def _crashed(case: Case, beside: Callable[[Spool], Spool], crash: Callable[[Spool], None]) -> Spool:
    """End the owner of the case, and return another."""
    other = case.open(beside(case.spool))
    crash(case.spool)
    case.leave(case.spool)
    return other
