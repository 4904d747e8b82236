"""What a spool promises to its owner."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from starlette_upload_keepalive.exceptions import UploadClosed
from starlette_upload_keepalive.jobs.job_state import DONE, JobState
from starlette_upload_keepalive.jobs.record import Standing, handler_key
from starlette_upload_keepalive.jobs.spool import Ending

from .case import (
    HANDLER,
    LATER,
    LONG_AGO,
    THREADS,
    Case,
    check_bytes,
    expect,
    ids,
    in_threads,
    is_ours,
    kept_job,
    race,
    same,
    state_of,
    there,
    waiting_job,
)


def _accepts(case: Case) -> None:
    spool, one, two = case.spool, case.job(), [case.job(), case.job()]
    spool.accept([one])
    spool.accept(two)
    kept = list(spool.jobs())
    expect(ids(kept) == ids([one, *two]), "jobs() goes over all that is accepted, each once")
    expect({job.state for job in kept} == {JobState.WAITING}, "an accepted job is waiting")
    expect(not spool.waiting(), "an accepted job belongs to its owner, and is not in waiting()")
    expect(spool.find("0" * 32) is None, "find() returns None for an id that is not kept")
    record = kept_job(spool, one).record
    expect(record.to_json() == one.record.to_json(), "find() returns the record as it was given")


def _accepts_all_or_none(case: Case) -> None:
    spool, good = case.spool, case.job()
    try:
        spool.accept([good, case.unreadable_job()])
    except (UploadClosed, OSError):
        pass
    else:
        expect(kept=False, promise="accept() raises if the bytes of a job can't be read")
    expect(not list(spool.jobs()), "accept() keeps all jobs or none")
    expect(not is_ours(spool, good), "accept() keeps all jobs or none")
    spool.accept([good])
    expect(state_of(spool, good) is JobState.WAITING, "a job may be accepted after it was refused")


def _keeps_bytes(case: Case) -> None:
    shared = case.blob(b"shared")
    jobs = [case.job(shared, case.blob(b"")), case.job(shared)]
    case.spool.accept(jobs)
    case.let_go_of_blobs()
    for job in jobs:
        case.spool.release(job.record.id, Standing(LONG_AGO))
    claimed = [
        there(case.claim(waiting_job(case.spool, job)), "claim() gives a job that waits")
        for job in jobs
    ]
    check_bytes(claimed[0], jobs[0], b"shared", b"")
    check_bytes(claimed[1], jobs[1], b"shared")


def _claims(case: Case) -> None:
    spool, standing = case.spool, Standing(1234.567, 3, 2, 1)
    job = case.released(standing)
    waiting = waiting_job(spool, job)
    expect(waiting.key == handler_key(HANDLER), "waiting() tells the key of the handler")
    expect(same(waiting.standing, standing), "waiting() tells where a job stands, as released")
    expect(not is_ours(spool, job), "a released job belongs to nobody: start() is a KeyError")
    claimed = there(case.claim(waiting), "claim() gives a job that waits")
    expect(same(claimed.standing, standing), "claim() tells where a job stands, as released")
    expect(not spool.waiting(), "a claimed job is not in waiting()")
    expect(case.claim(waiting) is None, "claim() returns None if the job was claimed")
    unknown = waiting._replace(id="0" * 32)
    expect(case.claim(unknown) is None, "claim() returns None if the job is not there")
    expect(is_ours(spool, job), "a claimed job is ours")


def _tells_what_waits(case: Case) -> None:
    spool = case.spool
    others = case.job(handler="another")
    spool.accept([others])
    late, early, latest = (case.released(Standing(due)) for due in (20, 10, 30))
    spool.release(others.record.id, Standing(40))

    def waiting(**wanted: Any) -> list[str]:
        return [job.id for job in spool.waiting(**wanted)]

    in_order = [job.record.id for job in (early, late, latest, others)]
    expect(waiting() == in_order, "waiting() begins with what is due first")
    expect(
        waiting(most=2) == in_order[:2] + in_order[3:],
        "waiting(most=) tells of so many jobs of each handler",
    )


def _runs_again(case: Case) -> None:
    spool, job = case.spool, case.released()
    for attempts in (1, 2):
        claimed = there(case.claim(waiting_job(spool, job)), "a job may be claimed again")
        spool.start(job.record.id)
        kept = kept_job(spool, job)
        expect(kept.state is JobState.RUNNING, "a started job is running")
        expect(kept.standing.attempts == attempts, "start() counts an attempt")
        check_bytes(claimed, job, b"data")
        spool.release(job.record.id, Standing(LATER, attempts, 1, 0))
        expect(state_of(spool, job) is JobState.DELAYED, "a job that is not due yet is delayed")


def _interrupts(case: Case) -> None:
    spool, job = case.spool, case.accepted()
    spool.start(job.record.id)
    spool.interrupt(job.record.id)
    expect(state_of(spool, job) is JobState.WAITING, "a job that is interrupted is waiting")
    expect(not spool.waiting(), "a job that is interrupted stays ours, and is not in waiting()")
    spool.release(job.record.id, Standing(LONG_AGO, 1))
    claimed = there(
        case.claim(waiting_job(spool, job)), "a job may be claimed that was interrupted"
    )
    check_bytes(claimed, job, b"data")


def _finishes(case: Case) -> None:
    spool = case.spool
    for state in sorted(DONE):
        job, ending = case.accepted(), Ending(state, 1234.5, {"a": [1, None]}, "why")
        spool.start(job.record.id)
        spool.finish(job.record.id, ending)
        kept = kept_job(spool, job)
        expect(kept.state is state, f"a job that has finished as {state.value} is {state.value}")
        expect(kept.ending == ending, "find() tells what came of a job")
        expect(kept.standing.attempts == 1, "a job that is done keeps its attempts")
        expect(not is_ours(spool, job), "a job that is done belongs to nobody")
    expect(not spool.waiting(), "a job that is done is not in waiting()")


def _knows_its_own(case: Case) -> None:
    steps: list[Callable[[str], None]] = [
        case.spool.start,
        case.spool.interrupt,
        lambda job_id: case.spool.release(job_id, Standing(LONG_AGO)),
        lambda job_id: case.spool.finish(job_id, Ending(JobState.SUCCEEDED, LONG_AGO)),
    ]
    for job_id in (case.released().record.id, "0" * 32):
        for step in steps:
            try:
                step(job_id)
            except KeyError:
                continue
            expect(
                kept=False,
                promise="start(), interrupt(), release() and finish() of another's: KeyError",
            )


def _keeps_children(case: Case) -> None:
    spool, parent = case.spool, case.accepted()
    spool.start(parent.record.id)
    done = Ending(JobState.SUCCEEDED, LONG_AGO)
    children = [case.job(parent.blobs[0], parent=parent) for _ in range(2)]
    for state in sorted(DONE - {JobState.SUCCEEDED}):
        try:
            spool.finish(parent.record.id, Ending(state, LONG_AGO), children)
        except ValueError:
            continue
        expect(kept=False, promise=f"finish() of a {state.value} job with children: ValueError")
    with suppress(UploadClosed, OSError):
        spool.finish(parent.record.id, done, [children[0], case.unreadable_job()])
    expect(
        state_of(spool, parent) is JobState.RUNNING and spool.find(children[0].record.id) is None,
        "finish() keeps all children and the end of their parent, or none of it",
    )
    spool.finish(parent.record.id, done, children)
    expect(state_of(spool, parent) is JobState.SUCCEEDED, "a job with children has succeeded")
    expect(not spool.waiting(), "children belong to the owner of their parent")
    for child in children:
        expect(is_ours(spool, child), "children belong to the owner of their parent")
        record = kept_job(spool, child).record
        expect(record.parent_id == parent.record.id, "children know their parent")


def _cancels(case: Case) -> None:
    spool, owned = case.spool, case.accepted()
    waits, other = case.released(), case.released()
    expect(spool.cancel(waits.record.id), "cancel() ends a job that waits")
    expect(state_of(spool, waits) is JobState.CANCELLED, "cancel() ends a job that waits")
    expect(not spool.cancel(waits.record.id), "cancel() is False for a job that is done")
    expect(not spool.cancel(owned.record.id), "cancel() is False for a job that somebody has")
    expect(is_ours(spool, owned), "cancel() is False for a job that somebody has")
    wanted = {waits.record.id, owned.record.id, "0" * 32}
    expect(
        ids(list(spool.jobs(wanted))) == ids([waits, owned]),
        "jobs(wanted) goes over those, wherever they are",
    )
    waiting_job(spool, other)


def _retries(case: Case) -> None:
    spool, job = case.spool, case.failed()
    spool.sweep()
    expect(spool.retry(job.record.id), "retry() is True for a job that has failed")
    kept = kept_job(spool, job)
    expect(kept.state is JobState.WAITING, "retry() lets a job wait")
    expect(kept.ending is None, "a job that is retried is not done")
    standing = kept.standing
    expect(
        (standing.attempts, standing.failures, standing.crashes) == (1, 0, 0),
        "retry() keeps the attempts, and forgets failures and crashes",
    )
    expect(not spool.retry(job.record.id), "retry() is False for a job that waits")
    claimed = there(case.claim(waiting_job(spool, job)), "a retried job may be claimed")
    check_bytes(claimed, job, b"data")
    expect(not spool.retry("0" * 32), "retry() is False for an id that is not kept")


def _purges(case: Case) -> None:
    spool = case.spool
    left = [case.accepted(), case.released()]
    done = {state: case.accepted() for state in sorted(DONE)}
    for at, (state, job) in enumerate(done.items(), 1):
        spool.finish(job.record.id, Ending(state, LONG_AGO + at))
    first, second, *_ = done
    expect(spool.purge(state=JobState.WAITING) == 0, "purge() forgets only what is done")
    expect(spool.purge(state=second) == 1, "purge(state=) forgets jobs in that state, and counts")
    expect(spool.find(done[second].record.id) is None, "a job that is purged is not found")
    expect(spool.purge(before=LONG_AGO + 2) == 1, "purge(before=) forgets older jobs, and counts")
    expect(spool.find(done[first].record.id) is None, "purge(before=) forgets older jobs")
    expect(spool.purge() == len(DONE) - 2, "purge() forgets all that is done, and counts")
    expect(ids(list(spool.jobs())) == ids(left), "purge() forgets nothing else")


def _sweeps(case: Case) -> None:
    spool, waits, runs = case.spool, case.released(), case.accepted()
    spool.start(runs.record.id)
    for _ in range(2):
        spool.sweep()
    expect(ids(list(spool.jobs())) == ids([waits, runs]), "sweep() keeps what is not done")
    spool.release(runs.record.id, Standing(LONG_AGO))
    for job in (waits, runs):
        claimed = there(case.claim(waiting_job(spool, job)), "sweep() keeps what waits")
        check_bytes(claimed, job, b"data")


def _stays_for_what_runs(case: Case) -> None:
    spool, job = case.spool, case.accepted()
    spool.start(job.record.id)
    spool.close()
    try:
        spool.finish(job.record.id, Ending(JobState.SUCCEEDED, LONG_AGO))
    except Exception as error:
        raise AssertionError(
            "The spool breaks a promise: after close(), a job that runs can be finished."
        ) from error
    spool.close()
    spool.close()
    case.open(spool)  # as an app that is started again
    expect(ids([case.accepted()])[0] in ids(list(spool.jobs())), "it may be opened again")


def _takes_threads(case: Case) -> None:
    jobs = [[case.job() for _ in range(5)] for _ in range(THREADS)]
    in_threads(*(partial(case.spool.accept, some) for some in jobs))
    every = [job for some in jobs for job in some]
    expect(ids(list(case.spool.jobs())) == ids(every), "threads may accept at once")
    for job in every:
        case.spool.release(job.record.id, Standing(LONG_AGO))
    race(case, [case.spool] * THREADS, every)


CHECKS: tuple[Callable[[Case], None], ...] = (
    _accepts,
    _accepts_all_or_none,
    _keeps_bytes,
    _claims,
    _tells_what_waits,
    _runs_again,
    _interrupts,
    _finishes,
    _knows_its_own,
    _keeps_children,
    _cancels,
    _retries,
    _purges,
    _sweeps,
    _stays_for_what_runs,
    _takes_threads,
)
