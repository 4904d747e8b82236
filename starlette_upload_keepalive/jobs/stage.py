"""Jobs that wait for a request, or for the job that submitted them, to be accepted."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from starlette_upload_keepalive.exceptions import (
    NotAccepted,
    NotDurable,
    NotRunning,
    WouldDeadlock,
)
from starlette_upload_keepalive.files.upload import Upload

from .job import Job
from .options import Start
from .work import Keep


@dataclass(frozen=True, eq=False)
class StagedJob:
    """A job and what becomes of it.

    Attributes:
        job: The job.
        sources: The uploads it was made of.
        accepts: Whether it runs, given the answer's status code.
        start: With the end of the request, or as soon as the answer is out.
        publish: Hands it to its runner; False if none is running.
        keep: Keeps it in its durable spool, if it has one.
    """

    job: Job[Any]
    sources: Sequence[Upload]
    accepts: Callable[[int], bool]
    start: Start
    publish: Callable[[Job[Any]], bool]
    keep: Keep | None = None

    @property
    def unkept(self) -> bool:
        """Whether it is still to be kept in a durable spool."""
        return self.keep is not None and not self.job._kept

    def release(self) -> bool:
        """Hand it to its runner; False if none is running."""
        self.job._held_by = None
        return self.job.done or self.publish(self.job)

    def drop(self, reason: str) -> None:
        """Let go of its files; it will not run."""
        if not self.job.done:
            self.job._discard(reason)
        if self.job._kept:
            self.publish(self.job)  # whose spool is to know


class Stage:
    """The jobs of one request, from submit to accept to release.

    Must be made in the task that the request, or the job, runs in.

    Args:
        parent_id: The job that submits them, if one does.
        attempt: Which of its attempts does.
        submits: Whether jobs are likely to be submitted. If not, its task is only
            asked for with the first of them: a form without handlers need not pay.
    """

    def __init__(
        self,
        parent_id: str | None = None,
        *,
        attempt: int = 0,
        submits: bool = True,
    ) -> None:
        self.parent_id = parent_id
        self._attempt = attempt
        self._number = 0
        self._staged: list[StagedJob] = []
        self._vetoed: dict[int, Upload] = {}
        self._status: int | None = None
        self._answered = False
        self._ended = False
        self._task_id: int | None = anyio.get_current_task().id if submits else None
        self._lock = threading.RLock()  # sync endpoints submit from threads

    def add(self, staged: StagedJob) -> None:
        """Take a job, or start it if the request has ended.

        Raises:
            NotAccepted: The request was answered with an error, or the upload vetoed.
            NotRunning: The request has ended, and no runner is there.
            NotDurable: It would have to be kept, and the answer is out already.
        """
        with self._lock:
            if self._is_vetoed(staged):
                raise NotAccepted("The upload was discarded, so no job can be submitted for it.")
            if self._status is not None and not staged.accepts(self._status):
                raise NotAccepted(
                    f"The request was answered with {self._status}, so no job can be submitted "
                    "for it. submit_now() does not ask."
                )
            if self._ended and self._status is None:
                raise NotAccepted(
                    "The request or the job that the upload came in with has failed, so no job "
                    "can be submitted for it. submit_now() does not ask."
                )
            if self._status is not None and staged.unkept:
                raise NotDurable(NOT_DURABLE)
            if not self._ended and not (self._answered and staged.start == "response"):
                self._hold(staged)
                return
        if staged.publish(staged.job):
            return
        with self._lock:
            if self._ended:
                raise NotRunning(NOT_RUNNING)
            self._hold(staged)  # without a runner it runs at the end of the request

    def discard(self, upload: Upload) -> None:
        """Veto all jobs of an upload, present and future, that are not released yet."""
        with self._lock:
            self._vetoed[id(upload)] = upload

    def decide(self, status: int) -> None:
        """Accept or drop each job, by the status of the answer. Only the first answer counts."""
        with self._lock:
            if self._status is not None:
                return
            self._status = status
            rejected = self._take(lambda staged: not staged.accepts(status))
        for staged in rejected:
            staged.drop(f"its request was answered with {status}")

    def take_unkept(self) -> list[tuple[Keep, list[Job[Any]]]]:
        """Return the jobs that are accepted and still to be kept, by who keeps them."""
        unkept: dict[Keep, list[Job[Any]]] = {}
        with self._lock:
            if self._status is not None:
                for staged in self._staged:
                    gone = staged.job.done or self._is_vetoed(staged)
                    if staged.keep is not None and staged.unkept and not gone:
                        unkept.setdefault(staged.keep, []).append(staged.job)
        return list(unkept.items())

    def reject(self, reason: str) -> None:
        """Drop all jobs, although they were accepted: they can't be kept."""
        with self._lock:
            rejected, self._staged = self._staged, []
        for staged in rejected:
            staged.drop(reason)

    def next_child_id(self) -> str | None:
        """Return the id of the next job, which follows from that of its parent, if it has one."""
        if self.parent_id is None:
            return None
        with self._lock:
            self._number += 1
            text = f"{self.parent_id}/{self._attempt}/{self._number}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def holds_accepted(self) -> bool:
        """Whether jobs have been accepted that are not released yet."""
        return self._status is not None and bool(self._staged)

    def answered(self) -> None:
        """Release the jobs that start as soon as the answer is out."""
        with self._lock:
            self._answered = True
            due = self._take(lambda staged: staged.start == "response" or self._is_vetoed(staged))
        for staged in due:
            if self._is_vetoed(staged):
                staged.drop(_VETOED)
            elif not staged.release():
                with self._lock:
                    self._hold(staged)

    def end(self) -> list[Job[Any]]:
        """Release what was accepted, and drop the rest.

        Returns:
            The accepted jobs that no runner took.
        """
        with self._lock:
            self._ended = True
            ending, self._staged = self._staged, []
        stranded: list[Job[Any]] = []
        for staged in ending:
            if self._is_vetoed(staged):
                staged.drop(_VETOED)
            elif self._status is None:
                staged.drop("the request or the job that it came in with has failed")
            elif staged.unkept:
                staged.drop("its request was cancelled before it was kept")
            elif not staged.release():
                stranded.append(staged.job)
        return stranded

    @property
    def ended(self) -> bool:
        """Whether what was staged is released or dropped."""
        return self._ended

    def _hold(self, staged: StagedJob) -> None:
        if self._task_id is None:
            self._task_id = _current_task_id()
        staged.job._held_by = self._raise_in_own_task
        self._staged.append(staged)

    def _is_vetoed(self, staged: StagedJob) -> bool:
        return bool(self._vetoed) and any(id(source) in self._vetoed for source in staged.sources)

    def _take(self, which: Callable[[StagedJob], bool]) -> list[StagedJob]:
        taken: list[StagedJob] = []
        left: list[StagedJob] = []
        for staged in self._staged:
            (taken if which(staged) else left).append(staged)
        self._staged = left
        return taken

    def _raise_in_own_task(self) -> None:
        parents = {task.id: task.parent_id for task in anyio.get_running_tasks()}
        task_id: int | None = anyio.get_current_task().id
        while task_id is not None:
            if task_id == self._task_id:
                raise WouldDeadlock(
                    "The job starts after the request that staged it, so the request can't wait "
                    "for it. Return the job's id, or use submit_now()."
                )
            task_id = parents.get(task_id)


def _current_task_id() -> int | None:
    try:
        return anyio.get_current_task().id
    except RuntimeError:  # in a thread: who waits there waits in a task of its own
        return None


_VETOED = "its upload was vetoed"

NOT_DURABLE = (
    "Nothing here waits until the job is on the disk: use `await handler.enqueue(...)`. submit() "
    "is for a request whose answer has not begun, and for handlers."
)

NOT_RUNNING = (
    "No runner is there to start the job: let the server send lifespan events, "
    "or enter `async with uploads.running():`."
)
