"""Turns are fair between handlers, follow priorities, and keep to limits."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from starlette_upload_keepalive import Job
from starlette_upload_keepalive.jobs.options import HandlerOptions
from starlette_upload_keepalive.jobs.turns import Turns
from tests.works import FakeWork, made_of_nothing

AnyTurns = Turns[Job[Any]]


def work(name: str, **options: Any) -> FakeWork:
    return FakeWork(name, options=HandlerOptions(**options))


def add(turns: AnyTurns, work: FakeWork, count: int = 1) -> list[Job[Any]]:
    jobs = [made_of_nothing(work) for _ in range(count)]
    for job in jobs:
        job._wait_for_turn()
        turns.add(job)
    return jobs


def claim(turns: AnyTurns, count: int) -> list[str]:
    """Give that many their turn, one after the other, and return whose handlers they are of."""
    names = list[str]()
    for _ in range(count):
        job = turns.claim()
        if job is None:
            break
        names.append(job.handler)
        turns.leave(job)
    return names


def test_first_come_first_served_within_a_handler() -> None:
    turns, photo = AnyTurns(3), work("photo")
    jobs = add(turns, photo, 5)
    assert [turns.claim() for _ in range(5)] == [*jobs[:3], None, None]
    assert (turns.busy, len(turns)) == (3, 2)
    turns.leave(jobs[1])
    assert turns.claim() is jobs[3]
    assert turns.claim() is None


def test_one_busy_handler_does_not_hold_up_another() -> None:
    turns = AnyTurns(1)
    add(turns, work("busy"), 10_000)
    assert claim(turns, 5) == ["busy"] * 5
    add(turns, work("rare"))
    assert "rare" in claim(turns, 2)


def test_handlers_take_turns() -> None:
    turns = AnyTurns(1)
    for name in "abc":
        add(turns, work(name), 100)
    names = claim(turns, 30)
    assert Counter(names) == {"a": 10, "b": 10, "c": 10}
    assert all(len(set(names[i : i + 3])) == 3 for i in range(0, 30, 3))


def test_each_step_of_priority_doubles_the_turns() -> None:
    turns = AnyTurns(1)
    for priority in (-1, 0, 2):
        add(turns, work(str(priority), priority=priority), 1000)
    assert Counter(claim(turns, 110)) == {"2": 80, "0": 20, "-1": 10}


def test_the_lowest_priority_does_not_starve() -> None:
    turns, low, high = AnyTurns(1), work("low", priority=-5), work("high", priority=5)
    add(turns, low, 3)
    add(turns, high, 3000)
    names = claim(turns, 3003)
    second, third = [place for place, name in enumerate(names) if name == "low"][1:]
    assert third - second == 1025


def test_turns_that_were_not_used_are_no_credit() -> None:
    turns, idle = AnyTurns(1), work("idle")
    add(turns, idle)
    add(turns, work("busy"), 1000)
    claim(turns, 500)
    add(turns, idle, 500)
    assert Counter(claim(turns, 20)) == {"busy": 10, "idle": 10}


def test_limit_of_one_handler() -> None:
    turns, limited, free = AnyTurns(5), work("limited", max_concurrency=2), work("free")
    jobs = add(turns, limited, 4)
    others = add(turns, free, 4)
    claimed = [turns.claim() for _ in range(6)]
    assert Counter(job and job.handler for job in claimed) == {"limited": 2, "free": 3, None: 1}
    turns.leave(others[0])
    assert turns.claim() is others[3]
    turns.leave(jobs[0])
    assert turns.claim() is jobs[2]


def test_one_at_its_limit_loses_no_turns_to_come() -> None:
    turns, limited = AnyTurns(2), work("limited", max_concurrency=1)
    (first, *_) = add(turns, limited, 3)
    add(turns, work("free"), 1000)
    assert turns.claim() is first
    assert claim(turns, 100) == ["free"] * 100
    turns.leave(first)
    assert "limited" in claim(turns, 2)


def test_removed_one_has_no_turn() -> None:
    turns = AnyTurns(1)
    first, second, third = add(turns, work("a"), 3)
    assert turns.remove(second)
    assert not turns.remove(second)
    assert turns.claim() is first
    assert not turns.remove(first)
    turns.leave(first)
    assert turns.claim() is third
    assert turns.claim() is None


def test_the_oldest_that_waits() -> None:
    assert Turns(1).oldest is None
    turns = AnyTurns(1)
    first, second = add(turns, work("a"), 2)
    (third,) = add(turns, work("b"))
    assert turns.oldest == first._waiting_since
    turns.remove(first)
    assert turns.oldest == second._waiting_since
    turns.remove(second)
    assert turns.oldest == third._waiting_since
    assert turns.take_all() == [third]
    assert not turns


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_events_keeps_to_the_limits(seed: int) -> None:
    chance = random.Random(seed)
    turns = AnyTurns(7)
    works = [
        work(str(number), max_concurrency=chance.choice([None, 1, 3]), priority=number - 2)
        for number in range(5)
    ]
    running, waiting = set[Job[Any]](), set[Job[Any]]()
    for _ in range(5000):
        step = chance.random()
        if step < 0.4:
            waiting.update(add(turns, chance.choice(works)))
        elif step < 0.45 and waiting:
            gone = chance.choice(sorted(waiting, key=lambda job: job.id))
            assert turns.remove(gone)
            waiting.remove(gone)
        elif step < 0.75 and running:
            ended = chance.choice(sorted(running, key=lambda job: job.id))
            turns.leave(ended)
            running.remove(ended)
        elif (claimed := turns.claim()) is not None:
            waiting.remove(claimed)
            running.add(claimed)
        by_handler = Counter(job.handler for job in running)
        assert turns.busy == len(running) <= 7
        assert len(turns) == len(waiting)
        for each in works:
            limit = each.options.max_concurrency
            assert limit is None or by_handler[each.name] <= limit
