"""So much of something that all uploads of a storage share."""

from __future__ import annotations

import threading


class Budget:
    """So much of something that all uploads of a storage share.

    Nobody waits for it: who gets none makes do without, or is refused.

    Args:
        limit: The most that may be taken at once.

    Attributes:
        used: What is taken.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.used: int = 0
        # Whoever lets go of an upload gives back, the garbage collector included, which may come
        # while its thread takes.
        self._lock = threading.RLock()

    @property
    def left(self) -> float:
        """How much may be taken."""
        return self.limit - self.used

    def take(self, size: int) -> bool:
        """Take that much, or nothing and return False if it is not left."""
        with self._lock:
            if size > self.left:
                return False
            self.used += size
            return True

    def add(self, size: int) -> None:
        """Count that much, left or not: it is there whatever becomes of it."""
        with self._lock:
            self.used += size

    def give_back(self, size: int) -> None:
        """Return that much."""
        with self._lock:
            self.used -= size
