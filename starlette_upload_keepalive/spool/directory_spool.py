"""The spool in a directory."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from starlette_upload_keepalive.exceptions import SpoolUnusable
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.job_state import JobState
from starlette_upload_keepalive.jobs.record import (
    NewerFormat,
    Standing,
    UnreadableRecord,
)
from starlette_upload_keepalive.jobs.spool import (
    ClaimedJob,
    Ending,
    KeptJob,
    NewJob,
    WaitingJob,
)
from starlette_upload_keepalive.quantities import check_least

from .backlog import Backlog
from .catalog import Catalog
from .disk import Disk
from .entry import Entry, State
from .layout import (
    CHILDREN,
    CLAIMED,
    CORRUPT,
    DEAD,
    DONE,
    FOLDERS,
    READY,
    folder_of,
    lock_of,
    random_name,
)
from .left_alone import LeftAlone
from .obstacles import Obstacles
from .owned import Owned, OwnedJobs
from .reading import read_job
from .rescue import Rescue, publish_children
from .root import check_root, tell_of_the_end, what_to_do
from .shared_sync import SharedSync
from .sweeping import Sweeping, empty_trash
from .trust import Trust
from .writing import (
    entry_of,
    publish_jobs,
    remove,
    set_aside,
    throw_away,
    write_ending,
    write_entries,
)

_ENDED: dict[JobState, State] = {
    JobState.SUCCEEDED: "s",
    JobState.FAILED: "f",
    JobState.CANCELLED: "c",
    JobState.DISCARDED: "d",
}

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


class DirectorySpool:
    """Keeps accepted jobs and their bytes in a directory, so that they outlive the process.

    ``Uploads(spool=DirectorySpool("var/uploads"))``. Any number of processes
    may share the directory.

    Args:
        root: The directory: on a local disk, and for this user alone. It must exist.
        keep_done: How many jobs that are done keep their record.
        keep_done_seconds: For how long they do.
        allow_network: Take a directory on a network filesystem, too.

    Raises:
        ValueError: A number is out of its range.
    """

    durable: bool = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        keep_done: int = 1000,
        keep_done_seconds: float = 7 * 24 * 3600,
        allow_network: bool = False,
    ) -> None:
        check_least("keep_done", keep_done, 0, " jobs")
        if not keep_done_seconds >= 0:
            raise ValueError(
                f"keep_done_seconds must be 0 seconds or more, not {keep_done_seconds!r}."
            )
        self.root: Path = Path(root).absolute()
        self._keep_done = keep_done
        self._keep_done_seconds = keep_done_seconds
        self._allow_network = allow_network
        self._disk = Disk(self.root)
        self._storage: Storage
        self._sweeping: Sweeping
        self._name = ""
        self._lock: int | None = None
        self._owned = OwnedJobs()
        self._trust = Trust()
        self._obstacles = Obstacles(self.root)
        self._left_alone = LeftAlone()
        self._backlog = Backlog()
        self._closing = threading.Lock()
        self._is_closing = False
        self._catalog = Catalog(self._disk)
        self._sync_ours = SharedSync(self._sync_in_turn)

    # An owner

    def open(self, storage: Storage) -> None:
        """Become an owner."""
        if self._lock is not None:
            # To go on would let go of the lock under a job that still runs.
            raise SpoolUnusable(
                f"The spool {str(self.root)!r} is open already: another Uploads uses this "
                "DirectorySpool (give each its own), or jobs of its former run still go on."
            )
        check_root(self.root, allow_network=self._allow_network)
        self._storage, self._is_closing, self._trust = storage, False, Trust()
        self._sweeping = Sweeping(
            self._disk, self._keep_done, self._keep_done_seconds, self._obstacles
        )
        self._disk.open()
        try:
            self._make_folders()
            self._become_owner()
        except BaseException:
            self._let_go()
            raise
        # What is parsed from now on is there already when it is accepted.
        storage.move_to(str(self.root / self._ours))

    def _make_folders(self) -> None:
        disk = self._disk
        there = disk.names(".")
        for folder in FOLDERS:
            if folder not in there:
                with suppress(FileExistsError):  # another process starts, too
                    disk.make_directory(folder)
        disk.sync_directory(".")

    def _become_owner(self) -> None:
        disk = self._disk
        while self._lock is None:
            self._name = random_name()
            # Before the folder: one without a lock is that of an owner who has ended. Whoever
            # looks for such has the lock if he sees the file before we have locked it.
            self._lock = disk.lock(lock_of(self._name), create=True)
        disk.make_directory(self._ours)
        disk.sync_directory(CLAIMED)

    def close(self) -> None:
        """Be an owner no more, as soon as no job of ours runs."""
        with self._closing:
            if self._lock is not None:
                self._storage.move_to(None)
                self._is_closing = True
        self._end_if_closed()

    def _end_if_closed(self) -> None:
        with self._closing:
            if self._lock is None or not self._is_closing or len(self._owned):
                return
            try:
                if self._disk.remove_directory(self._ours):
                    self._disk.remove(lock_of(self._name))
            except OSError as error:  # no job of ours is there, and the app is to end
                tell_of_the_end(error, self.root, allow_network=self._allow_network)
            finally:
                self._let_go()

    def _let_go(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            self._disk.unlock(lock)
        self._disk.close()

    @property
    def _ours(self) -> str:
        return folder_of(self._name)

    # What becomes of a job

    def accept(self, jobs: Sequence[NewJob]) -> None:
        """Keep jobs, all or none of them. They belong to this owner."""
        try:
            with self._trust.watched():
                if jobs:
                    self._accept(jobs)
        except OSError as error:
            todo = what_to_do(error, self.root, allow_network=self._allow_network)
            if todo is None:
                raise
            raise OSError(error.errno, f"See to this, and start the app again: {todo}") from error

    def _accept(self, jobs: Sequence[NewJob]) -> None:
        path, directory, entries = publish_jobs(self._disk, self._ours, jobs)
        try:
            self._sync_ours()
        except BaseException:
            throw_away(self._disk, path)
            raise
        for entry in entries:
            self._owned.add(directory, entry)

    def _sync_in_turn(self) -> None:
        # The system tells of a failure once: whoever syncs next must know of it.
        with self._trust.watched():
            self._disk.sync_directory(self._ours)

    def start(self, job_id: str) -> None:
        """Note that the handler of a job of ours starts: its end with us is a crash."""
        with self._owned.held(job_id) as owned:
            standing = owned.entry.standing
            standing = replace(standing, attempts=standing.attempts + 1)
            self._move(owned, self._ours, owned.entry._replace(standing=standing, state="r"))

    def interrupt(self, job_id: str) -> None:
        """Note that a job of ours is cut off by the end of its app, and may run on meanwhile."""
        with self._owned.held(job_id) as owned:
            self._move(owned, self._ours, owned.entry._replace(state="w"))

    def release(self, job_id: str, standing: Standing) -> None:
        """Let anybody claim a job of ours, once it is due."""
        with self._owned.held(job_id) as owned:
            self._move(owned, READY, owned.entry._replace(standing=standing, state="w"))
        self._end_if_closed()

    def finish(self, job_id: str, ending: Ending, children: Sequence[NewJob] = ()) -> None:
        """Note what came of a job of ours, and keep what its handler has submitted."""
        if children and ending.state is not JobState.SUCCEEDED:
            raise ValueError(f"A job that is {ending.state.value} has no children.")
        with self._owned.held(job_id) as owned:
            self._finish(owned, ending, children)
        self._end_if_closed()

    def _finish(self, owned: Owned, ending: Ending, children: Sequence[NewJob]) -> None:
        if children:
            self._write_children(owned.path, children)
        write_ending(self._disk, owned.path, ending)
        standing = replace(owned.entry.standing, due=ending.at)
        done = owned.entry._replace(standing=standing, state=_ENDED[ending.state])
        if not children:
            self._move(owned, DEAD if ending.state is JobState.FAILED else DONE, done)
        else:
            self._move(owned, self._ours, done._replace(state="p"))
            self._publish_children(self._owned.get(owned.entry.id), children)

    def _publish_children(self, parent: Owned, children: Sequence[NewJob]) -> None:
        # The parent has succeeded, whatever happens here: what is left to do is done by rescue.
        job_id = parent.entry.id
        try:
            for child in children:  # ours already, where they are
                self._owned.add(f"{parent.path}/{CHILDREN}", entry_of(child))
            for entry in publish_children(
                self._disk, self._ours, parent.entry, self._ours, self._sync_ours
            ):
                self._owned.add(self._ours, entry)
        except OSError:
            logger.exception("Some children of the job %s could not be moved out of it.", job_id)
        finally:
            self._owned.remove(job_id)

    def _write_children(self, path: str, children: Sequence[NewJob]) -> None:
        throw_away(self._disk, f"{path}/{CHILDREN}")  # of an end that was cut short
        try:
            write_entries(self._disk, f"{path}/{CHILDREN}", children)
            self._disk.sync_directory(path)
        except BaseException:
            remove(self._disk, f"{path}/{CHILDREN}")
            raise

    def _move(self, owned: Owned, folder: str, entry: Entry) -> None:
        self._disk.rename(owned.path, f"{folder}/{entry.name}")
        if folder == self._ours:
            self._owned.add(folder, entry)
        else:
            self._owned.remove(entry.id)
        if owned.directory != self._ours:  # it was accepted with others
            try:
                with suppress(FileNotFoundError):  # the last two have left at once
                    self._disk.remove_directory(owned.directory)
            except OSError:  # it is in nobody's way, and the job has moved
                logger.warning("%s could not be removed.", owned.directory, exc_info=True)

    # Jobs of anybody

    def waiting(self, most: int | None = None) -> list[WaitingJob]:
        """Return the jobs that may be claimed, the earliest of each handler."""
        waiting = self._backlog.look(self._disk, most, self._left_alone)
        if self._storage.disk.limit < math.inf:
            self._storage.disk.waiting = self._backlog.measure(self._disk)
        for name in self._backlog.strange:
            self._set_aside(f"{READY}/{name}", "its name is not that of a job")
        return waiting

    @property
    def backlog(self) -> int:
        """How many jobs waited when that was last asked."""
        return self._backlog.jobs

    def claim(self, job: WaitingJob) -> ClaimedJob | None:
        """Make a job ours; None if another was faster, or it can't be read."""
        entry = Entry(job.id, job.key, job.standing, "w")
        claimed = None
        leave_alone = partial(self._left_alone.add, entry.name)
        with self._obstacles.passed(f"{READY}/{entry.name}", leave_alone):
            claimed = self._claim(entry)
        return claimed  # noqa: RET504 - None if it was passed

    def _claim(self, entry: Entry) -> ClaimedJob | None:
        path = f"{self._ours}/{entry.name}"
        try:
            self._disk.rename(f"{READY}/{entry.name}", path)
        except FileNotFoundError:
            return None
        try:
            claimed = read_job(self._disk, path, entry, self._storage)
        except NewerFormat:
            self._left_alone.add(entry.name)
            self._disk.rename(path, f"{READY}/{entry.name}")
            return None
        except (UnreadableRecord, FileNotFoundError, NotADirectoryError) as error:
            self._set_aside(path, error)
            return None
        except BaseException:
            self._disk.rename(path, f"{READY}/{entry.name}")
            raise
        self._owned.add(self._ours, entry)
        return claimed

    def rescue(self) -> int:
        """Let the jobs be claimed of owners that have ended."""
        rescue = Rescue(self._disk, self._obstacles)
        try:
            rescue.run()
        finally:
            if rescue.rescued:
                logger.warning(
                    "%d jobs of processes that have ended may be claimed by others; "
                    "%d of them were at work.",
                    rescue.rescued,
                    rescue.crashed,
                )
        return rescue.rescued

    def sweep(self) -> None:
        """Remove what is needed no more: bytes of jobs that are done, old records, trash."""
        self._sweeping.run()

    def _set_aside(self, path: str, why: object) -> None:
        with self._obstacles.passed(path):
            set_aside(self._disk, path)
            logger.error("%r can't be read and is set aside, in %s/: %s", path, CORRUPT, why)

    # For people

    def jobs(self, wanted: Container[str] | None = None) -> Iterator[KeptJob]:
        """Go over the jobs that are kept, or those of these ids, whoever has them."""
        return self._catalog.jobs(wanted)

    def find(self, job_id: str) -> KeptJob | None:
        """Look for a job, whoever has it."""
        return self._catalog.find(job_id)

    def cancel(self, job_id: str) -> bool:
        """End a job that waits; False if there is none."""
        return self._catalog.cancel(job_id)

    def retry(self, job_id: str) -> bool:
        """Let a job that has failed be claimed once more; False if it is not kept."""
        return self._catalog.retry(job_id)

    def purge(self, *, state: JobState | None = None, before: float | None = None) -> int:
        """Forget jobs that are done, and free what they take."""
        purged = self._catalog.purge(state=state, before=before)
        empty_trash(self._disk, self._obstacles)
        return purged
