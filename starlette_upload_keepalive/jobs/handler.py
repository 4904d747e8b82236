"""Handlers: functions that work on uploads, and how to submit to them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from starlette.datastructures import UploadFile

from starlette_upload_keepalive.events import Hooks, JobSubmitted
from starlette_upload_keepalive.exceptions import FileTooLarge, NotAccepted, NotDurable, NotRunning
from starlette_upload_keepalive.files.disk_errors import told_to_the_client
from starlette_upload_keepalive.files.upload import Upload
from starlette_upload_keepalive.processes.import_name import Decorated, ImportName, plain

from .arguments import Arguments
from .current_stage import TakesJobs, current_stage
from .history import JobHistory
from .job import Job
from .job_context import JobContext
from .options import HandlerOptions, RunIn
from .record import handler_key
from .selection import Selection
from .signature import called, place_of, runs_in, wants_context
from .spool import ClaimedJob
from .stage import NOT_DURABLE, NOT_RUNNING, Stage, StagedJob
from .work import Keep

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D")
P = ParamSpec("P")
R = TypeVar("R")


class Handler(Decorated[F], Generic[F, D, P, R]):
    """A function that works on uploads after their request.

    ``uploads.handler(...)`` makes it. Called, it is still the plain function.

    Attributes:
        name: Its name, one of its kind in its `Uploads`.
        key: What stands for the name in a spool.
        function: The function.
        run_in: "thread" or "process" for a plain function, "loop" for an ``async`` one.
        options: What it was registered with that concerns each of its jobs.
        many: Whether it is given all files of a field at once.
        import_name: By what its process finds the function, if it has one.
    """

    def __init__(
        self,
        function: F,
        *,
        name: str | None,
        selection: Selection | None,
        many: bool,
        options: HandlerOptions,
        history: JobHistory,
        hooks: Hooks,
        publish: Callable[[Job[Any]], bool],
        keep: Keep | None = None,
    ) -> None:
        super().__init__(function)
        functools.update_wrapper(cast("Any", self), function)
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        self.key: str = handler_key(self.name)
        self.run_in: RunIn = place_of(self.name, function, options.run_in)
        self.import_name: ImportName | None = (
            ImportName.of(function) if self.run_in == "process" else None
        )
        self.options = options
        self.hooks = hooks
        self._signature = inspect.signature(function)
        self._wants_context = wants_context(self.name, self._signature)
        self._selection = selection
        self.many: bool = many
        self._history = history
        self._publish = publish
        self._keep = keep
        for callback in (options.on_success, options.on_error):
            if callback is not None:
                runs_in(callback)
        if selection is not None:
            self._check_called_without_arguments()

    if TYPE_CHECKING:
        __call__: F
    else:

        def __call__(self, *args, **kwargs):
            """Call the plain function."""
            return self.function(*args, **kwargs)

    def submit(self, upload: D, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Submit an upload, to start once its request has been accepted and has ended.

        An answer below 400 accepts it. In a handler, the new job starts when
        that handler has returned. Anywhere else it starts at once.

        Args:
            upload: The upload, or a list of them if the handler was registered
                with ``many=True``. The caller still owns it.
            args: What else the handler is called with, as JSON.
            kwargs: The same, by name.

        Raises:
            TypeError: It is no `Upload`, or the arguments don't fit or are not JSON.
            UploadClosed: The owner has let go of it.
            FileTooLarge: It has more bytes than the handler's ``max_size``.
            NotAccepted: The request was answered with an error, or the upload vetoed.
            NotRunning: It is to start at once, and no runner is there.
            NotDurable: It is to start at once, and be kept in a durable spool: `enqueue` it.
        """
        return self._submit(upload, args, kwargs, waive=False)

    def submit_now(self, upload: D, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Submit an upload, to start at once, whatever becomes of the request.

        Args:
            upload: As for `submit`.
            args: As for `submit`.
            kwargs: As for `submit`.

        Raises:
            TypeError: As for `submit`.
            UploadClosed: As for `submit`.
            FileTooLarge: As for `submit`.
            NotRunning: No runner is there.
            NotDurable: The spool is durable: `enqueue` it.
        """
        return self._submit(upload, args, kwargs, waive=True)

    async def enqueue(self, upload: D, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Submit an upload, to start at once, and return when it is kept.

        With a durable spool the job is on the disk then. This is for code outside
        of requests and handlers, or which does not want to wait for them; in a
        thread: ``anyio.from_thread.run(handler.enqueue, upload)``.

        Args:
            upload: As for `submit`.
            args: As for `submit`.
            kwargs: As for `submit`.

        Raises:
            TypeError: As for `submit`.
            UploadClosed: As for `submit`.
            FileTooLarge: As for `submit`.
            NotRunning: No runner is there.
            StorageError: It can't be kept.

        Cancellation: waits for the disk.
        """
        job = self._made(upload, args, kwargs)
        try:
            if self._keep is not None:
                with told_to_the_client():
                    await self._keep([job])
            if not self._publish(job):
                raise NotRunning(NOT_RUNNING)  # noqa: TRY301
        except BaseException:
            self._drop(job)
            raise
        return job

    def _stage_selected(
        self, uploads: Sequence[Upload], path: str, stage: Stage, context: Context
    ) -> None:
        """Stage a job for each file of a form that the handler runs for by itself."""
        if self._selection is None:
            return
        for group in self._selection.groups(uploads, path):
            job = self._job(group, Arguments(), context.copy())
            staged = self._staged(job, group, self._selection.accepts)
            try:
                for upload in group:
                    self._check_size(upload)
                stage.add(staged)
            except FileTooLarge as error:  # the form was read before our limits were known
                staged.drop(error.detail)
            except NotAccepted:  # the form was asked for after an answer that rejects it
                staged.drop("its request was not accepted")

    def invoke(self, job: Job[Any], uploads: list[Upload]) -> Any:
        """Call the function for an attempt of a job, with uploads of its own."""
        return called(
            self.function,
            uploads if self.many else uploads[0],
            JobContext(job) if self._wants_context else None,
            job._arguments,
        )

    def _check_name(self) -> None:
        """See that another process would find the function by its name, if one has to.

        Raises:
            TypeError: It would find something else, or nothing.
        """
        name = self.import_name
        if name is not None and plain(name.loaded()) is not plain(self):
            raise TypeError(
                f"The handler {self.name} has run_in='process', but {name.qualname} in "
                f"{name.module} is not it: leave the function, or what the decorator makes of "
                "it, under its name in that module."
            )

    def _submit(self, upload: Any, args: Any, kwargs: Any, *, waive: bool) -> Job[R]:
        uploads = self._checked_uploads(upload)
        stage = None if waive else _stage_of(uploads)
        job = self._made(upload, args, kwargs, stage)
        try:
            if stage is not None:
                stage.add(self._staged(job, uploads, _below_400))
            elif self._keep is not None:
                raise NotDurable(NOT_DURABLE)  # noqa: TRY301
            elif not self._publish(job):
                raise NotRunning(NOT_RUNNING)  # noqa: TRY301
        except BaseException:
            self._drop(job)
            raise
        return job

    def _made(self, upload: Any, args: Any, kwargs: Any, stage: TakesJobs | None = None) -> Job[R]:
        uploads = self._checked_uploads(upload)
        placeholders = [upload, None] if self._wants_context else [upload]
        try:
            self._signature.bind(*placeholders, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}.") from None
        running_in = current_stage.get()
        return self._job(
            uploads,
            Arguments(args, kwargs),
            copy_context(),
            None if running_in is None else running_in.parent_id,
            None if stage is None else stage.next_child_id(),
        )

    def _drop(self, job: Job[R]) -> None:
        job._discard("it could not be submitted")
        self._history.forget(job)

    def _job(
        self,
        uploads: Sequence[Upload],
        arguments: Arguments,
        context: Context,
        parent_id: str | None = None,
        job_id: str | None = None,
    ) -> Job[R]:
        job: Job[R] = Job(
            self,
            uploads,
            arguments,
            context=context,
            on_done=self._history.mark_done,
            parent_id=parent_id,
            job_id=job_id,
        )
        self._history.add(job)
        job._tell(JobSubmitted)
        return job

    def _claimed(self, claimed: ClaimedJob) -> Job[R]:
        """Make a job that another process, or an earlier start, has accepted."""
        record = claimed.record
        job: Job[R] = Job(
            self,
            claimed.uploads,
            Arguments.of(record.arguments),
            context=Context(),
            on_done=self._history.mark_done,
            parent_id=record.parent_id,
            job_id=record.id,
        )
        job._stands(claimed)
        self._history.add(job)
        job._wait_for_turn()
        return job

    def _staged(
        self, job: Job[R], sources: Sequence[Upload], accepts: Callable[[int], bool]
    ) -> StagedJob:
        return StagedJob(
            job,
            sources,
            accepts,
            start=self.options.start,
            publish=self._publish,
            keep=self._keep,
        )

    def _checked_uploads(self, given: Any) -> list[Upload]:
        uploads: list[Any] = list(given) if self.many and _is_sequence(given) else [given]
        if not uploads:
            raise TypeError(f"{self.name} needs at least one upload.")
        for upload in uploads:
            if not isinstance(upload, Upload):
                raise TypeError(
                    f"{self.name} takes {'a list of uploads' if self.many else 'an Upload'}, "
                    f"not {type(upload).__name__}. {self._advice(upload)}"
                )
            self._check_size(upload)
        return uploads

    def _check_size(self, upload: Upload) -> None:
        most = self.options.max_size
        if most is not None and upload._view.blob.size > most:
            raise FileTooLarge(upload.field_name, most)

    def _advice(self, given: object) -> str:
        if isinstance(given, UploadFile):
            return (
                "Is UploadKeepAliveMiddleware added to the app? A file that it did not parse "
                "can be detached first: detach(file)."
            )
        if _is_sequence(given):
            return "Submit each, or register the handler with many=True."
        return "Give it the upload itself, not what was read from it."

    def _check_called_without_arguments(self) -> None:
        given = [None, None] if self._wants_context else [None]
        try:
            self._signature.bind(*given)
        except TypeError as error:
            raise TypeError(
                f"{self.name} runs by itself for a field, with the upload alone: {error}. Give "
                "the parameter a default, or drop the field and submit() it yourself."
            ) from None


def _stage_of(uploads: Sequence[Upload]) -> TakesJobs | None:
    """The stage of the request or job that the uploads came in with, or that runs now."""
    for upload in uploads:
        if isinstance(upload._origin, Stage):
            return upload._origin
    stage = current_stage.get()
    # A task that the handler left behind submits as from anywhere else.
    return None if stage is None or stage.ended else stage


def _is_sequence(given: object) -> bool:
    return isinstance(given, (list, tuple))


def _below_400(status: int) -> bool:
    return status < 400
