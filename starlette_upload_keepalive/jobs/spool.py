"""Where accepted jobs and their bytes wait: what a spool has to do."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple, Protocol, runtime_checkable

from starlette.datastructures import Headers

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.owner import JOB
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import Upload

from .job_state import DONE, JobState
from .record import FileRecord, JobRecord, Standing


class NewJob(NamedTuple):
    """A job that is to be kept.

    Attributes:
        record: What it is.
        blobs: The bytes of its files, in order.
    """

    record: JobRecord
    blobs: Sequence[Blob]


class WaitingJob(NamedTuple):
    """A job that anybody may claim.

    Attributes:
        id: Its id.
        key: That of its handler, by `handler_key`.
        standing: Where it stands.
    """

    id: str
    key: str
    standing: Standing


@dataclass(frozen=True)
class ClaimedJob:
    """A job that nobody else can claim.

    Attributes:
        record: What it is.
        standing: Where it stands.
        uploads: Its files; whoever has claimed it closes them.
    """

    record: JobRecord
    standing: Standing
    uploads: Sequence[Upload]


@dataclass(frozen=True)
class Ending:
    """What came of a job.

    Attributes:
        state: One of those in which it is done.
        at: When, in seconds since 1970 (UTC).
        result: What its handler returned, as JSON would have it.
        error: What went wrong.
    """

    state: JobState
    at: float
    result: Any = None
    error: str | None = None


@dataclass(frozen=True)
class KeptJob:
    """A job as a spool tells of it, whoever has it. What it tells is named as in `Job`.

    Attributes:
        record: What it is.
        standing: Where it stands.
        state: What becomes of it.
        ending: What came of it, if it is done.
    """

    record: JobRecord
    standing: Standing
    state: JobState
    ending: Ending | None = None

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self.record.id

    @property
    def handler(self) -> str:
        """The handler's name."""
        return self.record.handler

    @property
    def field(self) -> str | None:
        """The form field that the upload came in, if it did."""
        return self.record.files[0].field_name

    @property
    def filenames(self) -> list[str | None]:
        """What the client called the files."""
        return [file.filename for file in self.record.files]

    @property
    def parent_id(self) -> str | None:
        """The job whose handler submitted it, if one did."""
        return self.record.parent_id

    @property
    def attempt(self) -> int:
        """How often its handler has been started."""
        return self.standing.attempts

    @property
    def created_at(self) -> datetime:
        """When it was made (UTC)."""
        return _time(self.record.created_at)

    @property
    def delayed_until(self) -> datetime | None:
        """When its next attempt is due, if it waits for one (UTC)."""
        return _time(self.standing.due) if self.state is JobState.DELAYED else None

    @property
    def finished_at(self) -> datetime | None:
        """When it was done, if it is (UTC)."""
        return None if self.ending is None else _time(self.ending.at)

    @property
    def done(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in DONE

    @property
    def result(self) -> Any:
        """What the handler returned, if it did (JSON)."""
        return None if self.ending is None else self.ending.result

    @property
    def error(self) -> str | None:
        """What it has failed of, if it has."""
        return None if self.ending is None else self.ending.error

    @property
    def started_at(self) -> None:
        """None: only the process that runs it knows when its attempt began."""

    @property
    def progress(self) -> None:
        """None: only the process that runs it knows how far it is."""

    def __repr__(self) -> str:
        return f"<KeptJob {self.id} of {self.handler}, {self.state.value}>"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


@runtime_checkable
class Spool(Protocol):
    """Keeps accepted jobs and their bytes until they are done.

    Whoever opens it is an owner. A job belongs to the owner who has accepted or
    claimed it until that finishes or releases it, or ends; then another may
    claim it. All methods may block, and are called from any thread.

    Attributes:
        durable: Whether what was accepted outlives the process.
    """

    durable: bool

    def open(self, storage: Storage) -> None:
        """Become an owner.

        Args:
            storage: What the files of claimed jobs belong to.
        """
        ...

    def close(self) -> None:
        """Be an owner no more, as soon as no job of ours runs."""
        ...

    def accept(self, jobs: Sequence[NewJob]) -> None:
        """Keep jobs, all or none of them. They belong to this owner.

        Raises:
            OSError: They can't be kept; none of them is.
        """
        ...

    def start(self, job_id: str) -> None:
        """Note that the handler of a job of ours starts: its end with us is a crash.

        Raises:
            KeyError: It is not ours.
            OSError: It can't be noted; the job stays as it was.
        """
        ...

    def interrupt(self, job_id: str) -> None:
        """Note that a job of ours is cut off by the end of its app, and may run on meanwhile.

        It stays ours, so that it is not run twice at a time; but it is waiting, and
        our end is no crash of it any more.

        Raises:
            KeyError: It is not ours.
            OSError: It can't be noted; the job stays as it was.
        """
        ...

    def release(self, job_id: str, standing: Standing) -> None:
        """Let anybody claim a job of ours, once it is due.

        Raises:
            KeyError: It is not ours.
            OSError: It can't be noted; the job stays ours.
        """
        ...

    def finish(self, job_id: str, ending: Ending, children: Sequence[NewJob] = ()) -> None:
        """Note what came of a job of ours, and keep what its handler has submitted.

        Both happen, or none. The children belong to this owner. Only one that has
        succeeded has any.

        Raises:
            KeyError: It is not ours.
            ValueError: It has children, and has not succeeded.
            OSError: It can't be noted; the job stays ours.
        """
        ...

    def waiting(self, most: int | None = None) -> list[WaitingJob]:
        """Return the jobs that may be claimed, now or once they are due: the earliest first.

        Args:
            most: How many are wanted of each handler, by its key; None for all.
        """
        ...

    @property
    def backlog(self) -> int:
        """How many jobs waited when that was last asked: with too many, no more are taken in."""
        ...

    def claim(self, job: WaitingJob) -> ClaimedJob | None:
        """Make a job ours; None if another was faster, or it can't be read."""
        ...

    def rescue(self) -> int:
        """Let the jobs be claimed of owners that have ended.

        For those that ran it is a crash; whoever claims one gives it up if it had too many.

        Returns:
            How many they were.
        """
        ...

    def sweep(self) -> None:
        """Remove what is needed no more. Called now and then."""
        ...

    def jobs(self, wanted: Container[str] | None = None) -> Iterable[KeptJob]:
        """Go over the jobs that are kept, whoever has them.

        Args:
            wanted: The ids of those that are wanted; None for all.
        """
        ...

    def find(self, job_id: str) -> KeptJob | None:
        """Look for a job, whoever has it."""
        ...

    def cancel(self, job_id: str) -> bool:
        """End a job that waits, and that nobody has; False if there is none."""
        ...

    def retry(self, job_id: str) -> bool:
        """Let a job that has failed be claimed once more; False if it is not kept."""
        ...

    def purge(self, *, state: JobState | None = None, before: float | None = None) -> int:
        """Forget jobs that are done.

        Args:
            state: Only those in this state.
            before: Only those that were done before, in seconds since 1970.

        Returns:
            How many they were.
        """
        ...


def upload_of(job_id: str, file: FileRecord, blob: Blob) -> Upload:
    """Make the upload of a file of a claimed job.

    Args:
        job_id: The job.
        file: What is known of the file.
        blob: Its bytes.
    """
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in file.headers]
    return Upload(
        blob,
        owner=f"the spool, for {JOB} {job_id}",
        filename=file.filename,
        headers=Headers(raw=headers),
        field_name=file.field_name,
    )
