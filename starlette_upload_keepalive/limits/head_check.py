"""The first bytes of a file, until they have been compared with what it is declared as."""

from __future__ import annotations

from starlette_upload_keepalive.exceptions import UnsupportedFileType

from .media_types import UNKNOWN
from .sniffing import Sniffer

_ELSE = "does not begin like what it is declared as"
_WHY = {"empty": "is empty", UNKNOWN: _ELSE}


class HeadCheck:
    """Collects the first bytes of a file, and checks them once.

    Args:
        sniffer: What compares them.
        field: The form field that the file comes in.
        content_type: What its client has declared.
    """

    def __init__(self, sniffer: Sniffer, field: str, content_type: str | None) -> None:
        self._sniffer = sniffer
        self._field = field
        self._content_type = content_type
        self._head = bytearray()

    @property
    def wanted(self) -> int:
        """How many more bytes it wants to see."""
        return self._sniffer.head - len(self._head)

    def add(self, data: bytes) -> bool:
        """See what comes next.

        Returns:
            Whether all is seen, and right.

        Raises:
            UnsupportedFileType: It is not what was declared.
        """
        self._head += data[: self.wanted]
        if self.wanted:
            return False
        self.check()
        return True

    def check(self) -> None:
        """Check what there is: the file has no more.

        Raises:
            UnsupportedFileType: It is not what was declared.
        """
        found = self._sniffer.contradicts(self._content_type, bytes(self._head))
        if found is not None:
            raise UnsupportedFileType(
                self._field, why=_WHY.get(found, f"{_ELSE}, but like {found}")
            )
