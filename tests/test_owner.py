"""An owner knows who owns the bytes only for its sake."""

from __future__ import annotations

from starlette_upload_keepalive.files.owner import Owner


def test_the_line_of_an_owner() -> None:
    released: list[Owner] = []
    first = Owner(released.append, "first")
    second = Owner(released.append, "second", first)
    third = Owner(released.append, "third", second)
    assert first.line == {first}
    assert third.line == {first, second, third}
    third.let_go()
    assert released == [third]
