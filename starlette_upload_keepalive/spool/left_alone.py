"""Jobs that can't be run here now, and are not looked at again before long."""

from __future__ import annotations

import time

# A minute: what gives such a job to this process is a person, or a newer version of the app.
_WHILE = 60.0


class LeftAlone:
    """Names of jobs, each for a while. For any thread."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, name: str) -> None:
        """Leave a job alone for a while."""
        now = time.monotonic()
        for each, until in list(self._until.items()):
            if until < now:
                self._until.pop(each, None)
        self._until[name] = now + _WHILE

    def __contains__(self, name: object) -> bool:
        until = self._until.get(name) if isinstance(name, str) else None
        return until is not None and time.monotonic() <= until
