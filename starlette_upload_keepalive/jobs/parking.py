"""The jobs that wait in the spool, as far as this process knows of them."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from .alarms import Alarm, Alarms
from .changes import Changes
from .job import Job
from .keeper import Keeper
from .parked_job import ParkedJob
from .turns import Turns

# How often to look for what others have released, and whether others have ended, in seconds.
_LOOK = 1.0
_RESCUE = 5.0
# How many waiting jobs are known at a time, and how many of each handler a look brings; the rest is
# only on the disk.
_MOST_KNOWN = 1000
_MOST = 200

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


class Parking:
    """Gives jobs back that have no place here, and claims them when there is one.

    Args:
        keeper: Who speaks to the spool.
        line_up: Lets a job that is due wait for its turn.
        alarms: Has calls made at a later time.
        changes: Is told when it is known whether jobs wait.
    """

    def __init__(
        self,
        keeper: Keeper,
        line_up: Callable[[ParkedJob], None],
        alarms: Alarms,
        changes: Changes,
    ) -> None:
        self._keeper = keeper
        self._line_up = line_up
        self._alarms = alarms
        self._changes = changes
        self._watching: anyio.CancelScope | None = None
        self._known: dict[str, ParkedJob] = {}
        self._delayed: dict[str, Alarm] = {}  # those of them that are not due
        self._tasks: TaskGroup | None = None
        self._is_open = True
        self._more = True  # on the disk, or perhaps
        self._next_rescue = 0.0
        self._wanted = anyio.Event()

    @property
    def holds_jobs(self) -> bool:
        """Whether jobs wait in the spool, as far as is known."""
        return self._is_open and (self._more or bool(self._known))

    def start(self, tasks: TaskGroup) -> None:
        """Look for what others have released or left, in a task of that group, until `stop`."""
        self._tasks = tasks
        self._watching = anyio.CancelScope()
        tasks.start_soon(self._watch, self._watching)

    def stop(self) -> None:
        """Look no more."""
        self._tasks = None
        if self._watching is not None:
            self._watching.cancel()

    def close(self) -> None:
        """Claim no more: others do."""
        self._is_open = False
        self._known.clear()
        for alarm in self._delayed.values():
            self._alarms.cancel(alarm)
        self._delayed.clear()

    def add(self, parked: ParkedJob) -> None:
        """Know a job that waits in the spool."""
        job_id = parked.waiting.id
        if not self._is_open or job_id in self._known:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._more = True
            self._keeper.forget(job_id)
            return
        self._known[job_id] = parked
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

    def cancel(self, job: Job[Any], turns: Turns[Any]) -> bool:
        """Have a job claimed and cancelled; False if it does not wait in the spool.

        One that another process claims first is not cancelled.

        Args:
            job: The job.
            turns: Where it waits for its turn, if it is due.
        """
        parked = self._known.get(job.id)
        if parked is None or self._tasks is None:
            return False
        delayed = self._delayed.pop(job.id, None)
        if delayed is not None:
            self._alarms.cancel(delayed)
        elif not turns.remove(parked):  # it is just being claimed
            return False
        self._tasks.start_soon(self._cancel, job, parked)
        return True

    async def release(self, job: Job[Any], due: float) -> bool:
        """Give a job back to the spool, for anybody from then on; False if it can't be."""
        try:
            self.add(await self._keeper.release(job, due))
        except OSError:
            logger.exception(
                "The job %s could not be given back to its spool: it waits here.", job.id
            )
            return False
        return True

    async def claim(self, parked: ParkedJob) -> Job[Any] | None:
        """Claim a job; None if it is not to be had."""
        job_id = parked.waiting.id
        job = None
        try:
            job = await self._keeper.claim(parked)
        finally:
            self._known.pop(job_id, None)
            if job is None:
                self._keeper.forget(job_id)
            if self._more and len(self._known) < _MOST // 2:
                self.look_soon()
        return job

    def look_soon(self) -> None:
        """Look at once for what others have released."""
        self._wanted.set()

    async def _watch(self, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                try:
                    await self._look()
                except OSError:
                    logger.exception("The spool can't be looked at; that is tried again.")
                self._wanted = anyio.Event()
                with anyio.move_on_after(_LOOK):
                    await self._wanted.wait()

    async def _look(self) -> None:
        now = anyio.current_time()
        if now >= self._next_rescue:
            # Not all processes at the same time.
            self._next_rescue = now + _RESCUE * random.uniform(0.8, 1.2)  # noqa: S311
            await self._keeper.rescue()
            await self._keeper.sweep()
        if self._is_open:
            found = await self._keeper.look(set(self._known), _MOST)
            self._more = len(found) >= _MOST
            for parked in found:
                self.add(parked)
            self._changes.notice()
        for job_id in self._keeper.awaited:
            kept = await self._keeper.find(job_id)
            if kept is not None and kept.done:
                self._keeper.learn(kept)

    async def _cancel(self, job: Job[Any], parked: ParkedJob) -> None:
        claimed = await self.claim(parked)
        if claimed is not None:
            claimed._cancel("asked")
            await self._keeper.note_end(claimed)
