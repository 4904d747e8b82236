"""Text of a client's, as a log or a terminal may have it."""

from __future__ import annotations


def printable(text: str, most: int | None = None) -> str:
    """Return text in which nothing begins a new line or controls a terminal.

    What can't be printed is escaped, as `repr` does, and so are backslashes: who
    reads it can tell what stands for a character from that character.

    Args:
        text: Any, such as the name that a client gave to a file.
        most: How many characters of it to keep at most; all if None.
    """
    if most is not None and len(text) > most:
        text = text[:most] + "…"
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in text
    )
