"""Where things are in the directory of a spool."""

from __future__ import annotations

from starlette_upload_keepalive.spool import layout
from starlette_upload_keepalive.spool.entry import Entry

OWNER = "0123456789abcdef" * 2


def test_random_names_are_owners_and_nothing_else() -> None:
    names = {layout.random_name() for _ in range(100)}
    assert len(names) == 100
    for name in names:
        assert layout.is_owner(name)
        assert not layout.is_draft(name)
        assert not layout.is_accept(name)
        assert Entry.parse(name) is None


def test_what_is_no_owner() -> None:
    for name in ("", OWNER[:-1], OWNER + "0", OWNER + "\n", OWNER.upper(), "../x", "accept-"):
        assert not layout.is_owner(name)


def test_drafts_are_known_and_are_nothing_else() -> None:
    for name in (OWNER, layout.accept_name()):
        draft = layout.draft_of(name)
        assert not layout.is_draft(name)
        assert layout.is_draft(draft)
        assert not layout.is_accept(draft)
        assert not layout.is_owner(draft)


def test_several_jobs_have_a_name_of_their_own() -> None:
    names = {layout.accept_name() for _ in range(100)}
    assert len(names) == 100
    assert all(layout.is_accept(name) and Entry.parse(name) is None for name in names)


def test_what_an_owner_has() -> None:
    assert layout.lock_of(OWNER) == f"owners/{OWNER}.lock"
    assert layout.folder_of(OWNER) == f"claimed/{OWNER}"


def test_the_drawing_names_each_folder() -> None:
    drawing = layout.__doc__ or ""
    drawn = {line.split("/")[0].strip() for line in drawing.splitlines() if line.startswith("    ")}
    assert drawn == set(layout.FOLDERS)
