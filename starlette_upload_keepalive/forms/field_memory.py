"""The memory that the fields of one form take, which can't go to disk."""

from __future__ import annotations

import errno

from starlette_upload_keepalive.exceptions import RequestTooLarge, TooManyUploads
from starlette_upload_keepalive.files.budget import Budget
from starlette_upload_keepalive.files.over_limit import OverLimit
from starlette_upload_keepalive.quantities import KIB

# A form of this much is taken whatever else is in memory: its fields are mostly small.
_FREE = 128 * KIB
# The budget is taken in steps: each message by itself would feel it.
_STEP = 256 * KIB


class FieldMemory:
    """Counts what the fields of one form take in the memory budget (divergence 12).

    Args:
        budget: What all forms and files share.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0
        self._taken = 0

    def add(self, size: int) -> None:
        """Count bytes that have come.

        Raises:
            RequestTooLarge: They are more than the whole budget.
            TooManyUploads: The budget is taken by others.
        """
        self._size += size
        lacking = self._size - self._taken - _FREE
        if lacking <= 0:
            return
        limit = int(self._budget.limit)
        if self._size > limit + _FREE:
            raise RequestTooLarge(limit)
        step = max(lacking, min(_STEP, limit - self._taken))
        if not self._budget.take(step):
            raise TooManyUploads from OverLimit(
                errno.ENOMEM, f"Of memory_budget, {limit:,}, too little is left for form fields"
            )
        self._taken += step

    def give_back(self) -> None:
        """Count them no more. Again does nothing."""
        taken, self._taken = self._taken, 0
        if taken:
            self._budget.give_back(taken)
