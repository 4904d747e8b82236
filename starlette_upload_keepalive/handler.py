"""Handlers: what was registered, which files it selects, and how to submit to it."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    get_args,
    overload,
)

from starlette.datastructures import UploadFile
from starlette.routing import compile_path

from .exceptions import NotAccepted, NotRunning
from .history import JobHistory
from .intake import Intake
from .job import Arguments, Job, JobContext, RunIn
from .stage import NOT_RUNNING, Stage, StagedJob, Start, current_stage
from .upload import Upload

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Selection:
    """Which files a handler runs for by itself.

    Attributes:
        field: The form field.
        path: The path of the request as in a route, "/users/{id}/photos"; any if None.
        content_types: Patterns of the declared media type, "image/*"; any if empty.
        many: One job for all files of the field, instead of one for each.
        accept: Status codes that accept a file, besides 200 to 299.

    Raises:
        ValueError: The field is empty, the path is not one of a route, or a pattern
            not one of a media type.
        TypeError: A status code is none.
    """

    field: str
    path: str | None = None
    content_types: Sequence[str] = ()
    many: bool = False
    accept: Collection[int] = ()

    def __post_init__(self) -> None:
        if not self.field:
            raise ValueError("field must be the name of a form field, not empty.")
        for pattern in self.content_types:
            if "/" not in pattern and pattern != "*":
                raise ValueError(f"content_type must be like 'image/*', not {pattern!r}.")
        for status in self.accept:
            if not isinstance(status, int):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"accept must have status codes such as 303, not {status!r}.")
        if self.path is not None and not self.path.startswith("/"):
            raise ValueError(f"path must start with '/', not be {self.path!r}.")
        try:
            compile_path(self.path or "/")
        except (AssertionError, KeyError, ValueError) as error:
            raise ValueError(f"path {self.path!r} is not one of a route: {error}.") from None

    def groups(self, uploads: Sequence[Upload], path: str) -> list[list[Upload]]:
        """Return the uploads of each job that is to run."""
        if self.path is not None and not compile_path(self.path)[0].match(path):
            return []
        chosen = [upload for upload in uploads if self._chooses(upload)]
        if self.many:
            return [chosen] if chosen else []
        return [[upload] for upload in chosen]

    def accepts(self, status: int) -> bool:
        """Whether an answer with that status code accepts the files."""
        return 200 <= status < 300 or status in self.accept

    def _chooses(self, upload: Upload) -> bool:
        if upload.field_name != self.field:
            return False
        if upload.filename == "" and upload.size == 0:
            return False  # how a browser sends a file input that was left blank
        if not self.content_types:
            return True
        declared = (upload.content_type or "").partition(";")[0].strip().lower()
        return any(fnmatchcase(declared, pattern) for pattern in self.content_types)


class Handler(Generic[F, D, P, R]):
    """A function that works on uploads after their request.

    ``uploads.handler(...)`` makes it. Called, it is still the plain function.

    Attributes:
        name: Its name, one of its kind in its `Uploads`.
        function: The function.
        run_in: "thread" for a plain function, "loop" for an ``async`` one.
    """

    def __init__(
        self,
        function: F,
        *,
        name: str | None,
        selection: Selection | None,
        many: bool,
        start: Start,
        history: JobHistory,
        publish: Callable[[Job[Any]], bool],
    ) -> None:
        if start not in get_args(Start):
            raise ValueError(f"start must be one of {get_args(Start)}, not {start!r}.")
        functools.update_wrapper(cast("Any", self), function)
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self.function = function
        self.run_in: RunIn = "loop" if _is_async(function) else "thread"
        self._signature = inspect.signature(function)
        self._wants_context = _wants_context(self.name, self._signature)
        self._selection = selection
        self._many = many
        self._start: Start = start
        self._history = history
        self._publish = publish
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
            NotAccepted: The request was answered with an error, or the upload vetoed.
            NotRunning: It is to start at once, and no runner is there.
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
            NotRunning: No runner is there.
        """
        return self._submit(upload, args, kwargs, waive=True)

    def stage_selected(self, intake: Intake, path: str) -> None:
        """Stage a job for each file of a form that the handler runs for by itself."""
        if self._selection is None:
            return
        for group in self._selection.groups(intake.uploads, path):
            job = self._job(group, Arguments(), intake.context.copy())
            staged = StagedJob(
                job, group, self._selection.accepts, start=self._start, publish=self._publish
            )
            try:
                intake.stage.add(staged)
            except NotAccepted:  # the form was asked for after an answer that rejects it
                staged.drop()

    def invoke(self, job: Job[Any]) -> Any:
        """Call the function for a job."""
        given: list[Any] = [job.uploads if self._many else job.uploads[0]]
        if self._wants_context:
            given.append(JobContext(job))
        return self.function(*given, *job.arguments.positional, **job.arguments.named)

    def _submit(self, upload: Any, args: Any, kwargs: Any, *, waive: bool) -> Job[R]:
        uploads = self._checked_uploads(upload)
        placeholders = [upload, None] if self._wants_context else [upload]
        try:
            self._signature.bind(*placeholders, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}.") from None
        job = self._job(uploads, Arguments.checked(args, kwargs), copy_context())
        try:
            stage = None if waive else _stage_of(uploads)
            if stage is not None:
                stage.add(
                    StagedJob(job, uploads, _below_400, start=self._start, publish=self._publish)
                )
            elif not self._publish(job):
                raise NotRunning(NOT_RUNNING)  # noqa: TRY301
        except BaseException:
            job.close_uploads()
            self._history.forget(job)
            raise
        return job

    def _job(self, uploads: Sequence[Upload], arguments: Arguments, context: Context) -> Job[R]:
        job: Job[R] = Job(
            self.name,
            uploads,
            arguments,
            context=context,
            run_in=self.run_in,
            invoke=self.invoke,
            on_done=self._history.mark_done,
        )
        self._history.add(job)
        return job

    def _checked_uploads(self, given: Any) -> list[Upload]:
        uploads: list[Any] = list(given) if self._many and _is_sequence(given) else [given]
        if not uploads:
            raise TypeError(f"{self.name} needs at least one upload.")
        for upload in uploads:
            if not isinstance(upload, Upload):
                raise TypeError(
                    f"{self.name} takes {'a list of uploads' if self._many else 'an Upload'}, "
                    f"not {type(upload).__name__}. {self._advice(upload)}"
                )
        return uploads

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


def _stage_of(uploads: Sequence[Upload]) -> Stage | None:
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


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, Handler):  # registered once more
        return function.run_in == "loop"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("A handler returns its result; it can't be a generator.")
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )


def _wants_context(name: str, signature: inspect.Signature) -> bool:
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    ):
        raise TypeError(f"{name} must take the upload as its first parameter.")
    annotated = [i for i, parameter in enumerate(parameters) if _is_context(parameter.annotation)]
    if annotated and (annotated != [1] or parameters[1].kind is inspect.Parameter.KEYWORD_ONLY):
        raise TypeError(f"{name} must take its JobContext as the second positional parameter.")
    return bool(annotated)


def _is_context(annotation: Any) -> bool:
    # With `from __future__ import annotations` it is text, perhaps not to be evaluated here.
    if isinstance(annotation, str):
        return re.search(rf"\b{JobContext.__name__}\b", annotation) is not None
    return annotation is JobContext or JobContext in get_args(annotation)


class HandlerDecorator(Protocol):
    """What ``uploads.handler(...)`` returns: makes a `Handler` of a function on one upload."""

    # A function that returns an awaitable fits both forms; the first that fits is meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Upload, JobContext, P], Awaitable[R]], /
    ) -> Handler[Callable[Concatenate[Upload, JobContext, P], Awaitable[R]], UploadFile, P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Upload, JobContext, P], R], /
    ) -> Handler[Callable[Concatenate[Upload, JobContext, P], R], UploadFile, P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Upload, P], Awaitable[R]], /
    ) -> Handler[Callable[Concatenate[Upload, P], Awaitable[R]], UploadFile, P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Upload, P], R], /
    ) -> Handler[Callable[Concatenate[Upload, P], R], UploadFile, P, R]: ...


Uploaded = list[Upload]
Files = Sequence[UploadFile]


class ManyHandlerDecorator(Protocol):
    """The same with ``many=True``: for a function on a list of uploads."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Uploaded, JobContext, P], Awaitable[R]], /
    ) -> Handler[Callable[Concatenate[Uploaded, JobContext, P], Awaitable[R]], Files, P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Uploaded, JobContext, P], R], /
    ) -> Handler[Callable[Concatenate[Uploaded, JobContext, P], R], Files, P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Uploaded, P], Awaitable[R]], /
    ) -> Handler[Callable[Concatenate[Uploaded, P], Awaitable[R]], Files, P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Uploaded, P], R], /
    ) -> Handler[Callable[Concatenate[Uploaded, P], R], Files, P, R]: ...
