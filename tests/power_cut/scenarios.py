"""What processes do with a spool before the power is cut: each way that a job can take."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from unittest.mock import patch

from starlette_upload_keepalive.jobs.job_state import JobState
from starlette_upload_keepalive.spool import directory_spool

from .model_disk import Killed
from .world import Process, Scenario, World, in_turns


def accept_one(world: World) -> None:
    process = world.process()
    process.accept(world.new(world.blob(b"bytes")))


def accept_several(world: World) -> None:
    """Jobs of one request, which share bytes."""
    process = world.process()
    shared, own = world.blob(b"shared"), world.blob(b"own")
    process.accept(world.new(shared), world.new(shared, own))


def accept_twice(world: World) -> None:
    process = world.process()
    process.accept(world.new(world.blob(b"first")))
    process.accept(world.new(world.blob(b"second")), world.new(world.blob(b"third")))


def finish(world: World) -> None:
    process = world.process()
    jobs = process.accept(*(world.new(world.blob(b"bytes")) for _ in range(2)))
    process.start(jobs[0])
    process.finish(jobs[0])
    process.start(jobs[1])
    process.finish(jobs[1])


def finish_and_sweep(world: World) -> None:
    """Of what is done only the record is kept."""
    process = world.process()
    first, second = process.accept(*(world.new(world.blob(b"bytes")) for _ in range(2)))
    process.start(first)
    process.finish(first)
    process.sweep()
    process.start(second)
    process.finish(second)
    process.sweep()


def forget(world: World) -> None:
    """Of what is done nothing is kept."""
    process = world.process(keep_done=0)
    shared = world.blob(b"shared")
    first, second = process.accept(world.new(shared), world.new(shared))
    process.start(first)
    process.finish(first)
    process.sweep(forgets=True)
    process.start(second)
    process.sweep(forgets=True)


def purge_done(world: World) -> None:
    process = world.process()
    job, _ = process.accept(*(world.new(world.blob(b"bytes")) for _ in range(2)))
    process.start(job)
    process.finish(job)
    process.purge()
    process.sweep()


def purge_dead(world: World) -> None:
    process = world.process()
    (job,) = process.accept(world.new(world.blob(b"bytes")))
    process.start(job)
    process.fail(job)
    process.purge()
    process.sweep()


def release_and_claim(world: World) -> None:
    """A job is tried, waits, and is claimed by another process."""
    process = world.process()
    job, still = process.accept(*(world.new(world.blob(b"bytes")) for _ in range(2)))
    other = world.process()
    process.start(job)
    process.release(job, delay=60)
    process.release(still)
    other.claim()
    other.start(job)
    other.finish(job)


def fail_and_retry(world: World) -> None:
    process = world.process()
    (job,) = process.accept(world.new(world.blob(b"bytes")))
    other = world.process()
    process.start(job)
    process.fail(job)
    process.retry(job)
    other.claim(job)
    other.start(job)
    other.fail(job)


def children(world: World) -> None:
    process = world.process()
    (parent,) = process.accept(world.new(world.blob(b"parent")))
    process.start(parent)
    bytes_ = world.blob(b"child")
    family = [world.new(bytes_, parent=parent), world.new(bytes_, parent=parent)]
    child, _ = process.finish(parent, *family)
    process.start(child)
    process.finish(child)


def child_of_a_child(world: World) -> None:
    process = world.process()
    (job,) = process.accept(world.new(world.blob(b"0")))
    for number in range(2):
        process.start(job)
        (job,) = process.finish(job, world.new(world.blob(b"%d" % number), parent=job))


def interrupt_and_rescue(world: World) -> None:
    """A thread outlives its app, and then the process ends: that is no crash of its job."""
    process = world.process()
    (job,) = process.accept(world.new(world.blob(b"bytes")))
    other = world.process()
    process.start(job)
    process.interrupt(job)
    # Until something else is synced there, a power cut may bring back that it runs.
    process.accept(world.new(world.blob(b"next")))
    process.spare(job)
    process.kill()
    assert other.rescue() == 2
    other.spare(job)
    other.claim(job)


def crash_and_rescue(world: World) -> None:
    """A process ends with a job that runs, and one that waits."""
    process = world.process()
    runs, _ = process.accept(*(world.new(world.blob(b"bytes")) for _ in range(2)))
    other = world.process()
    process.start(runs)
    process.kill()
    assert other.rescue() == 2
    other.claim(runs)
    other.start(runs)
    other.finish(runs)


def given_up(world: World) -> None:
    process = world.process()
    runs, _ = process.accept(*(world.new(world.blob(b"bytes")) for _ in range(2)))
    other = world.process()
    process.start(runs)
    process.kill()
    other.rescue()
    other.claim(runs)
    other.fail(runs)
    other.retry(runs)
    other.claim()


def rescue_of_an_accept(world: World) -> None:
    """Its owner dies before it is on the disk, and was told to nobody."""
    process = world.process()
    (job,) = process.accept(world.new(world.blob(b"bytes")))
    process.finish(job)
    other = world.process()
    shared = world.blob(b"shared")
    with suppress(Killed), patch.object(process.spool, "_sync_ours", process.die):
        process.accept(world.new(shared), world.new(shared))
    other.rescue()
    other.claim()


def rescue_of_children(world: World) -> None:
    """Their parent has ended, and its owner dies before they are there for themselves."""
    process = world.process()
    (parent,) = process.accept(world.new(world.blob(b"parent")))
    process.start(parent)
    other = world.process()
    family = [world.new(world.blob(b"child"), parent=parent) for _ in range(2)]
    with suppress(Killed), patch.object(directory_spool, "publish_children", process.die):
        process.finish(parent, *family)
    other.rescue()
    other.claim()


def killed_in_accept(world: World, steps: int) -> None:
    process = world.process()
    process.accept(world.new(world.blob(b"bytes")))
    other = world.process()
    process.dies_after(steps)
    shared = world.blob(b"shared")
    with suppress(Killed):
        process.accept(world.new(shared), world.new(shared))
    other.rescue()
    other.claim()


def killed_in_interrupt(world: World, steps: int) -> None:
    process = world.process()
    (job,) = process.accept(world.new(world.blob(b"bytes")))
    other = world.process()
    process.start(job)
    process.dies_after(steps)
    with suppress(Killed):
        process.interrupt(job)
        process.accept(world.new(world.blob(b"next")))
        process.spare(job)
    process.kill()
    other.rescue()
    other.claim()


def killed_in_rescue(world: World, steps: int) -> None:
    process = world.process()
    runs, _ = process.accept(*(world.new(world.blob(b"bytes")) for _ in range(2)))
    other = world.process()
    process.start(runs)
    process.kill()
    other.dies_after(steps)
    with suppress(Killed):
        other.rescue()
    world.process().rescue()


def killed_in_finish(world: World, steps: int) -> None:
    """It has ended, and its children are there; or it has not, runs again, and has others."""
    process = world.process()
    (parent,) = process.accept(world.new(world.blob(b"parent")))
    other = world.process()
    process.start(parent)
    process.dies_after(steps)
    with suppress(Killed):
        process.finish(parent, *(world.new(world.blob(b"c"), parent=parent) for _ in range(2)))
    other.rescue()
    other.claim()
    if parent in other.owned:
        other.start(parent)
        other.finish(parent, world.new(world.blob(b"again"), parent=parent))
    other.sweep()


# Several at once: in each order that chance gives


def accepts_share_a_sync(world: World, seed: int) -> None:
    """Threads of one process."""
    with in_turns(world.turns):
        process = world.process()
        new = [[world.new(world.blob(b"%d" % number))] for number in range(3)]
        new[1].append(world.new(world.blob(b"more")))
        world.run_in_turns(seed, *(partial(process.accept, *jobs) for jobs in new))


def publish_and_rescue(world: World, seed: int) -> None:
    """Two publish the children of a third, who has just ended, or is about to."""
    process, *others = (world.process() for _ in range(3))
    (parent,) = process.accept(world.new(world.blob(b"parent")))
    process.start(parent)
    family = [world.new(world.blob(b"child"), parent=parent) for _ in range(2)]
    if seed % 2:
        process.dies_after(20)

    def rescue(other: Process) -> None:
        other.rescue()
        other.claim()

    finish = partial(process.finish, parent, *family)
    world.run_in_turns(seed, finish, *(partial(rescue, other) for other in others))


def crowd(world: World, seed: int) -> None:
    """Processes that do what chance has them do; some die."""
    chance = random.Random(seed)
    world.run_in_turns(seed, *(partial(live, world, chance.random()) for _ in range(3)))


def live(world: World, seed: float) -> None:
    chance = random.Random(seed)
    process = world.process()
    if chance.random() < 0.5:
        process.dies_after(chance.randrange(10, 80))
    for _ in range(chance.randrange(3, 8)):
        chance.choice([take_up, take_up, go_on, go_on, go_on, look_after])(process, chance)


def take_up(process: Process, chance: random.Random) -> None:
    world = process.world
    if chance.random() < 0.5:
        blob = world.blob(b"%d" % chance.randrange(1000))
        process.accept(*(world.new(blob, world.blob(b"x")) for _ in range(chance.randint(1, 3))))
    else:
        process.rescue()
        process.claim()


def go_on(process: Process, chance: random.Random) -> None:
    if not process.owned:
        return
    world, job = process.world, chance.choice(process.owned)
    if not process.is_started(job):
        process.start(job)
    family = [world.new(world.blob(b"child"), parent=job) for _ in range(chance.randint(1, 2))]
    go: list[Callable[[], object]] = [
        partial(process.finish, job),
        partial(process.finish, job, *family),
        partial(process.release, job, delay=chance.choice([0, 60])),
        partial(process.fail, job),
    ]
    chance.choice(go)()


def look_after(process: Process, chance: random.Random) -> None:
    dead = [kept.record.id for kept in process.spool.jobs() if kept.state is JobState.FAILED]
    if dead and chance.random() < 0.5:
        process.spool.retry(chance.choice(dead))
    else:
        process.sweep()


SINGLE: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        accept_one,
        accept_several,
        accept_twice,
        finish,
        finish_and_sweep,
        forget,
        purge_done,
        purge_dead,
        release_and_claim,
        fail_and_retry,
        children,
        child_of_a_child,
        interrupt_and_rescue,
        crash_and_rescue,
        given_up,
        rescue_of_an_accept,
        rescue_of_children,
    )
}
KILLED: dict[str, Scenario] = {
    f"{scenario.__name__}_{steps}": partial(scenario, steps=steps)
    for scenario, most in (
        (killed_in_accept, 22),
        (killed_in_interrupt, 10),
        (killed_in_rescue, 18),
        (killed_in_finish, 40),
    )
    for steps in range(most)
}
"""Killed before each step in turn."""


def at_once(seed: int) -> dict[str, Scenario]:
    """Return what happens at once, in the order of a seed."""
    return {
        f"{scenario.__name__}_{seed}": partial(scenario, seed=seed)
        for scenario in (accepts_share_a_sync, publish_and_rescue, crowd)
    }
