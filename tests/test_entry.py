"""The name of a job's directory tells all that changes about the job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_upload_keepalive.jobs.record import LATEST, Standing
from starlette_upload_keepalive.spool.entry import Entry, State

ID = "0123456789abcdef" * 2
ENTRY = Entry(ID, "89abcdef", Standing(1234.567, 1, 2, 31), "w")
NAME = f"0000012d687-{ID}-89abcdef-1-2-1f-w"
STATES: list[State] = ["w", "r", "p", "s", "f", "c", "d"]


def test_the_name_of_an_entry() -> None:
    assert ENTRY.name == NAME
    assert Entry.parse(NAME) == ENTRY


numbers = st.integers(0, 16**8 - 1)


@given(st.integers(0, 16**11 - 1), numbers, numbers, numbers, st.sampled_from(STATES))
def test_a_name_tells_everything(
    due: int, attempts: int, failures: int, crashes: int, state: State
) -> None:
    entry = Entry(ID, "00000000", Standing(due / 1000, attempts, failures, crashes), state)
    assert Entry.parse(entry.name) == entry
    assert len(entry.name) < 150  # of the 255 bytes that a name may have


@given(st.floats(0, LATEST - 1))
def test_times_are_kept_to_the_millisecond(due: float) -> None:
    found = Entry.parse(ENTRY._replace(standing=Standing(due)).name)
    assert found is not None
    assert abs(found.standing.due - due) <= 0.001


@pytest.mark.parametrize(("due", "kept"), [(-1.0, 0.0), (1e300, LATEST - 0.001)])
def test_times_beyond_all_others(due: float, kept: float) -> None:
    found = Entry.parse(ENTRY._replace(standing=Standing(due)).name)
    assert found is not None
    assert found.standing.due == kept


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "junk",
        "accept-" + ID,
        "." + NAME,
        NAME + "\n",
        NAME + "x",
        NAME[:-1],
        NAME[:-1] + "x",
        NAME.upper(),
        NAME.replace("-1-2-", "-01-2-"),  # nothing would be found by its own name
        NAME.replace("-1-2-", "--2-"),
        NAME.replace("0000012d687-", "12d687-"),
        NAME.replace("1f", "\N{FULLWIDTH DIGIT ONE}f"),
    ],
)
def test_what_is_no_name_of_an_entry(name: str) -> None:
    assert Entry.parse(name) is None


@given(st.text())
def test_what_is_parsed_has_that_name(name: str) -> None:
    found = Entry.parse(name)
    assert found is None or found.name == name
