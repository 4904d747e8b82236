"""How files of a type begin, by puremagic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, cast

from .media_types import SIGNED, canonical


class _Row(Protocol):
    """A row of puremagic's tables."""

    byte_match: bytes
    offset: int
    mime_type: str


class _Signature(NamedTuple):
    name: str
    offset: int
    beginning: bytes
    later_offset: int = 0
    later: bytes = b""

    def matches(self, head: bytes) -> bool:
        return head.startswith(self.beginning, self.offset) and head.startswith(
            self.later, self.later_offset
        )

    def length(self) -> int:
        return len(self.beginning) + len(self.later)

    def is_part_of(self, other: _Signature) -> bool:
        """Whether it says nothing where the other is found, as "RIFF" beside "RIFF....WAVE"."""
        return not self.later and other.later != b"" and self.beginning == other.beginning


class Signatures:
    """The signatures of the types in ``SIGNED``.

    It reads puremagic's tables, since the library itself looks for all of fourteen
    hundred, in the event loop, and for those of a file's end in its beginning.

    Raises:
        ImportError: puremagic is not installed.
    """

    def __init__(self) -> None:
        try:
            from puremagic import main as tables  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise ImportError(
                "Sniffing needs puremagic: pip install 'starlette-upload-keepalive[sniff]'"
            ) from error
        rows = cast("list[_Row]", tables.magic_header_array)
        later_rows = cast("dict[bytes, list[_Row]]", tables.multi_part_dict)
        self._known: dict[bytes, list[_Signature]] = {}
        for row in rows:
            for signature in _signatures(row, later_rows.get(row.byte_match, ())):
                first = b"" if signature.offset else signature.beginning[:1]
                alike = self._known.setdefault(first, [])
                # Several rows may be one, once their names are canonical.
                if signature.name in SIGNED and signature not in alike:
                    alike.append(signature)

    def find(self, head: bytes) -> list[str]:
        """List the types whose files begin so, that with the longest signature first.

        Args:
            head: The first bytes of a file.
        """
        possible = self._known.get(head[:1], []) + self._known.get(b"", [])
        found = [signature for signature in possible if signature.matches(head)]
        found.sort(key=_Signature.length, reverse=True)
        names = [each.name for each in found if not any(map(each.is_part_of, found))]
        return list(dict.fromkeys(names))


def _signatures(row: _Row, later_rows: Iterable[_Row]) -> Iterable[_Signature]:
    beginning = _Signature(canonical(row.mime_type), row.offset, row.byte_match)
    yield beginning
    for later in later_rows:
        if later.offset >= 0:
            yield beginning._replace(
                name=canonical(later.mime_type),
                later_offset=later.offset,
                later=later.byte_match,
            )
