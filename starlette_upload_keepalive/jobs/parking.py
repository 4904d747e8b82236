"""The jobs that wait in the spool, as far as this process knows of them."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from .alarms import Alarm, Alarms
from .changes import Changes
from .job import Job
from .job_state import JobState
from .keeper import Keeper
from .parked_job import ParkedJob
from .turns import Turns
from .work import Work

# How often to look for what others have released, and whether others have ended, in seconds.
_LOOK = 1.0
_RESCUE = 5.0
# How many times as long as a look has taken to leave the spool alone then: the looks of one that
# holds very many jobs are not to take all of the processor.
_REST = 3
# How many jobs may wait here for a place until the next look, before they are given back: most get
# one by then, and need not be written and read once more.
_MOST_HERE = 100
# How many waiting jobs are known at a time, and how many a look brings; the rest is only on the
# disk. Of each handler: else those of one that waits for its turn leave no room for others.
_MOST_KNOWN = 1000
_MOST = 500

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


class Places(Protocol):
    """Where jobs run: the executor, as this sees it."""

    changes: Changes

    def turns_of(self, work: Work) -> Turns[Job[Any] | ParkedJob]:
        """Return where its jobs wait."""
        ...

    def start_waiting(self) -> None:
        """Give free places to those whose turn it is."""
        ...

    def wait_here(self, job: Job[Any]) -> None:
        """Let a job wait for its turn that the spool did not take back."""
        ...

    def start_claimed(self, job: Job[Any] | None, parked: ParkedJob) -> None:
        """Start a job that has its place already, or free the place if it was not to be had."""
        ...

    def cancel(self, job: Job[Any]) -> bool:
        """End a job."""
        ...


class Parking:
    """Gives jobs back that have no place here, and claims them when there is one.

    Args:
        keeper: Who speaks to the spool.
        places: Where they run.
        alarms: Has calls made at a later time.
    """

    def __init__(self, keeper: Keeper, places: Places, alarms: Alarms) -> None:
        self._keeper = keeper
        self._places = places
        self._alarms = alarms
        self._watching = anyio.CancelScope()
        self._known: dict[str, ParkedJob] = {}
        self._counts = Counter[Work]()  # of those, by their handler
        self._delayed: dict[str, Alarm] = {}  # those of them that are not due
        self._staying: list[Job[Any]] = []
        self._giving_back = set[Job[Any]]()
        self._claims = 0  # under way
        self._tasks: TaskGroup | None = None
        self._is_open = True
        self._is_blind = False
        self._more = True  # on the disk, or perhaps
        self._next_parking = self._next_rescue = 0.0
        self._wanted = anyio.Event()

    @property
    def busy(self) -> bool:
        """Whether jobs wait in the spool, as far as is known, or are on their way."""
        return self.moving or (self._is_open and (self._more or bool(self._known)))

    @property
    def moving(self) -> bool:
        """Whether jobs are on their way to the spool or from it."""
        return bool(self._giving_back or self._claims)

    def start(self, tasks: TaskGroup) -> None:
        """Look for what others have released or left, in a task of that group, until `stop`."""
        self._tasks = tasks
        tasks.start_soon(self._watch)

    def stop(self) -> None:
        """Look no more."""
        self._tasks = None
        self._watching.cancel()

    def close(self) -> None:
        """Claim no more, and give back what waits: others claim it."""
        self._is_open = False
        self._give_back_all()
        for parked in self._known.values():
            self._take(parked)
        self._known.clear()
        self._counts.clear()

    def add(self, parked: ParkedJob) -> None:
        """Know a job that waits in the spool."""
        job_id = parked.waiting.id
        if not self._is_open or job_id in self._known:
            return
        if self._counts[parked._work] >= _MOST_KNOWN:
            self._more = True
            self._keeper.forget(job_id)
            return
        self._known[job_id] = parked
        self._counts[parked._work] += 1
        wait = parked.due_in
        if wait > 0:
            self._delayed[job_id] = self._alarms.after(wait, partial(self.hurry, job_id))
        else:
            self._line_up(parked)

    def hurry(self, job_id: str) -> bool:
        """Let a job that is delayed wait for its turn; False if it is not."""
        alarm = self._delayed.pop(job_id, None)
        if alarm is None:
            return False
        self._alarms.cancel(alarm)
        self._line_up(self._known[job_id])
        return True

    def hurry_all(self) -> None:
        """Let all jobs wait for their turn that are delayed."""
        for job_id in list(self._delayed):
            self.hurry(job_id)

    def cancel(self, job: Job[Any]) -> bool:
        """Have a job claimed and cancelled; False if it does not wait in the spool.

        One that another process claims first is not cancelled.
        """
        if job in self._giving_back:
            job._stop("asked")
            return True
        parked = self._known.get(job.id)
        if parked is None or self._tasks is None:
            return False
        if not self._take(parked):
            job._stop("asked")
            return True
        self._claims += 1
        self._tasks.start_soon(self._cancel, parked)
        return True

    def stay(self, job: Job[Any]) -> None:
        """Let a job wait here that has no place, and give it back if it has none before long."""
        if len(self._staying) >= _MOST_HERE:
            self._staying = [each for each in self._staying if each.state is JobState.WAITING]
        if self._is_open and len(self._staying) < _MOST_HERE:
            self._staying.append(job)
        else:
            self._give_back(job)

    def _give_back_all(self) -> None:
        staying, self._staying = self._staying, []
        for job in staying:
            self._give_back(job)

    def _give_back(self, job: Job[Any]) -> None:
        if self._tasks is not None and self._places.turns_of(job._work).remove(job):
            self._giving_back.add(job)
            self._tasks.start_soon(self._park, job)

    def claim(self, parked: ParkedJob, tasks: TaskGroup) -> None:
        """Claim a job that was given a place, and have it started."""
        self._claims += 1
        tasks.start_soon(self._claim, parked)

    async def _park(self, job: Job[Any]) -> None:
        released = False
        try:
            self.add(await self._keeper.release(job, time.time()))
            released = True
        except OSError:
            logger.exception("The job %s waits here: its spool did not take it back.", job.id)
        finally:
            self._giving_back.remove(job)
            if not released:
                self._places.wait_here(job)
            if job._stop_reason == "asked":  # meanwhile
                self._places.cancel(job)
            self._places.changes.notice()

    async def _claim(self, parked: ParkedJob) -> None:
        job = None
        try:
            job = await self._claimed(parked)
        finally:
            self._places.start_claimed(job, parked)

    async def _cancel(self, parked: ParkedJob) -> None:
        job = await self._claimed(parked)
        if job is not None:
            job._cancel("asked")
            await self._keeper.note_end(job)
        self._places.changes.notice()

    async def _claimed(self, parked: ParkedJob) -> Job[Any] | None:
        job_id = parked.waiting.id
        job = None
        try:
            job = await self._keeper.claim(parked)
        finally:
            self._claims -= 1
            self._know_no_more(parked)
            if job is None:
                self._keeper.forget(job_id)
            if self._more and self._counts[parked._work] < _MOST // 2:
                self.look_soon()
        return job

    def _line_up(self, parked: ParkedJob) -> None:
        self._places.turns_of(parked._work).add(parked)
        self._places.start_waiting()

    def look_soon(self) -> None:
        """Look at once for what others have released, and expect to find something."""
        self._more = True
        self._wanted.set()

    async def _watch(self) -> None:
        with self._watching:
            while True:
                began = anyio.current_time()
                self._wanted = anyio.Event()  # what comes while it looks may not be seen
                try:
                    await self._look()
                except OSError:
                    if not self._is_blind:  # else it was told before
                        logger.exception("The spool can't be looked at; that is tried again.")
                    self._is_blind = True
                else:
                    if self._is_blind:
                        logger.warning("The spool can be looked at again.")
                    self._is_blind = False
                rest = _REST * (anyio.current_time() - began)
                with anyio.move_on_after(max(_LOOK, rest)):
                    await self._wanted.wait()
                    await anyio.sleep(rest)

    def _update(self, known: Sequence[ParkedJob], found: Sequence[ParkedJob]) -> None:
        """Know what was found, and nothing else: the rest is gone, or due later."""
        there = {parked.waiting.id for parked in found}
        for parked in known:
            job_id = parked.waiting.id
            is_gone = job_id not in there and self._known.get(job_id) is parked
            if is_gone and self._take(parked):
                self._know_no_more(parked)
                self._keeper.forget(job_id)
        for parked in found:
            if not self._keeper.has(parked.waiting.id):  # else it was claimed meanwhile
                self.add(parked)

    def _know_no_more(self, parked: ParkedJob) -> None:
        if self._known.get(parked.waiting.id) is parked:
            del self._known[parked.waiting.id]
            self._counts[parked._work] -= 1

    def _take(self, parked: ParkedJob) -> bool:
        """Take it out of where it waits; False if it is just being claimed."""
        delayed = self._delayed.pop(parked.waiting.id, None)
        if delayed is None:
            return self._places.turns_of(parked._work).remove(parked)
        self._alarms.cancel(delayed)
        return True

    async def _look(self) -> None:
        now = anyio.current_time()
        if now >= self._next_parking:
            self._next_parking = now + _LOOK
            self._give_back_all()
        if now >= self._next_rescue:
            # Not all processes at the same time.
            self._next_rescue = now + _RESCUE * random.uniform(0.8, 1.2)  # noqa: S311
            await self._keeper.rescue()
            await self._keeper.sweep()
        if self._is_open:
            known = list(self._known.values())
            found = await self._keeper.look(_MOST)
            listed = Counter(parked.waiting.key for parked in found)
            is_full = any(count >= _MOST for count in listed.values())
            self._more = is_full or self._wanted.is_set()
            self._update(known, found)
            self._places.changes.notice()
        await self._keeper.learn_of_awaited()
