"""What can't be seen to by this user, and is in nobody else's way."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

# What is said of one file or directory, and not of the disk: it is another user's, of another
# kind, mounted there, or can't be changed (chattr(1)).
_OF_ONE = {
    errno.EACCES,
    errno.EBUSY,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
}

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


class Obstacles:
    """Knows what can't be seen to, and tells of each once.

    Args:
        root: The directory of the spool.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._told = set[tuple[str, int | None]]()

    @contextmanager
    def passed(
        self, path: str, and_then: Callable[[], None] = lambda: None
    ) -> Generator[None, None, None]:
        """See to something if that is possible, and go on if it is not.

        Args:
            path: What is seen to, for people.
            and_then: Called each time that it is not.

        Raises:
            OSError: The disk failed, for others as well.
        """
        try:
            yield
        except OSError as error:
            if error.errno not in _OF_ONE:
                raise
            and_then()
            told = path, error.errno
            if told not in self._told:
                self._told.add(told)
                logger.error(  # noqa: TRY400 - it says what is wrong, and what to do
                    "%r can't be seen to, and is left as it is: %s. If the app has made it as "
                    "another user, give it to this one: chown -R %d. If not, move it out of the "
                    "spool. That is tried until then, and told once.",
                    str(self._root / path),
                    error,
                    os.getuid(),
                )
