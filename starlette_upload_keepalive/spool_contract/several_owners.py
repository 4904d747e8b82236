"""What a spool promises to owners who share it, and after one of them has crashed."""

from __future__ import annotations

from collections.abc import Callable

from starlette_upload_keepalive.jobs.job_state import JobState
from starlette_upload_keepalive.jobs.spool import Spool

from .case import (
    THREADS,
    Case,
    check_bytes,
    expect,
    ids,
    is_ours,
    race,
    state_of,
    there,
    waiting_job,
)

# Two owners


def _shares(case: Case, other: Spool) -> None:
    own, waits = case.accepted(), case.released()
    expect(ids(list(other.jobs())) == ids([own, waits]), "jobs() goes over those of all owners")
    case.spool.start(own.record.id)
    expect(state_of(other, own) is JobState.RUNNING, "find() tells of jobs of all owners")
    expect(not is_ours(other, own), "a job belongs to one owner")
    claimed = there(case.claim(waiting_job(other, waits), other), "any owner claims what waits")
    check_bytes(claimed, waits, b"data")
    expect(not is_ours(case.spool, waits), "a job belongs to the owner who has claimed it")
    failed = case.failed()
    expect(other.retry(failed.record.id), "any owner retries what has failed")
    expect(state_of(case.spool, failed) is JobState.WAITING, "any owner retries what has failed")
    case.failed()
    expect(other.purge() == 1, "any owner purges what is done")


def _races(case: Case, other: Spool) -> None:
    jobs = [case.released() for _ in range(20)]
    race(case, [case.spool, other] * (THREADS // 2), jobs)


def _leaves_the_living_alone(case: Case, other: Spool) -> None:
    waits, runs = case.accepted(), case.accepted()
    case.spool.start(runs.record.id)
    expect(other.rescue() == 0, "rescue() takes no job of an owner that lives")
    expect(case.spool.rescue() == 0, "rescue() takes none of our own jobs")
    expect(not other.waiting(), "rescue() takes no job of an owner that lives")
    expect(is_ours(case.spool, waits), "rescue() takes no job of an owner that lives")


def _outlives_its_owners(case: Case, other: Spool) -> None:
    waits = case.released()
    case.spool.close()
    case.leave(case.spool)
    if other.durable:
        claimed = there(case.claim(waiting_job(other, waits), other), "close() keeps what waits")
        check_bytes(claimed, waits, b"data")


# An owner that has crashed


def _rescues(case: Case, crashed: Callable[[], Spool]) -> None:
    waits, runs, done = case.accepted(), case.accepted(), case.failed()
    cut_off = case.accepted()
    together = [case.job(), case.job()]
    case.spool.accept(together)
    case.let_go_of_blobs()
    for job in (runs, together[0]):
        case.spool.start(job.record.id)
    case.spool.start(cut_off.record.id)
    case.spool.interrupt(cut_off.record.id)
    other = crashed()
    rescued = [waits, runs, *together]
    expect(other.rescue() == len(rescued) + 1, "rescue() counts what an owner had")
    standing = waiting_job(other, cut_off).standing
    expect(
        (standing.attempts, standing.failures, standing.crashes) == (1, 0, 0),
        "rescue() counts no crash for a job that its app has interrupted",
    )
    expect(other.rescue() == 0, "rescue() takes each job once")
    for job in rescued:
        crashes = int(job in (runs, together[0]))
        waiting = waiting_job(other, job)
        standing = waiting.standing
        expect(
            (standing.attempts, standing.failures, standing.crashes) == (crashes, 0, crashes),
            "rescue() counts a crash for a job that ran, and nothing for one that waited",
        )
        claimed = there(case.claim(waiting, other), "a rescued job may be claimed")
        check_bytes(claimed, job, b"data")
    expect(state_of(other, done) is JobState.FAILED, "rescue() takes no job that is done")


CHECKS: tuple[Callable[[Case, Spool], None], ...] = (
    _shares,
    _races,
    _leaves_the_living_alone,
    _outlives_its_owners,
)
AFTER_A_CRASH: tuple[Callable[[Case, Callable[[], Spool]], None], ...] = (_rescues,)
