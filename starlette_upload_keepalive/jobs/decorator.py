"""What ``uploads.handler(...)`` returns, for type checkers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Concatenate, ParamSpec, Protocol, TypeVar, overload

from starlette.datastructures import UploadFile

from starlette_upload_keepalive.files.upload import Upload

from .handler import Handler
from .job_context import JobContext

P = ParamSpec("P")
R = TypeVar("R")


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
