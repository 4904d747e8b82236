"""What can be told of a handler from its function: where it runs, and what it wants."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, get_args

from .arguments import Arguments
from .job_context import JobContext
from .options import RunIn


def place_of(name: str, function: Callable[..., Any], wanted: RunIn | None) -> RunIn:
    """Tell where a handler runs.

    Args:
        name: Its name.
        function: Its function.
        wanted: Where it is to; where its kind of function does if None.

    Raises:
        TypeError: It can't run there, or is a generator function.
    """
    usual = runs_in(function)
    if wanted is None or wanted == usual:
        return usual
    if wanted == "process" and usual == "thread":
        return "process"
    is_async = usual == "loop"
    raise TypeError(
        f"{name} is {'an async' if is_async else 'a plain'} function: run_in={wanted!r} is for "
        f"{'plain' if is_async else 'async'} ones."
    )


def runs_in(function: Callable[..., Any]) -> RunIn:
    """Tell where a function runs: a coroutine function on the event loop, others in a thread.

    Raises:
        TypeError: It is a generator function, which does nothing when called.
    """
    while isinstance(function, functools.partial):
        function = function.func
    known: object = getattr(function, "run_in", None)
    if known in get_args(RunIn):  # a handler, registered once more
        return "loop" if known == "loop" else "thread"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        name = getattr(function, "__name__", "It")
        raise TypeError(f"{name} is a generator, which does nothing when called: let it return.")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )
    return "loop" if is_async else "thread"


def wants_context(name: str, signature: inspect.Signature) -> bool:
    """Tell whether a handler is given its `JobContext`, by its annotations.

    Raises:
        TypeError: It takes no upload, or the context elsewhere.
    """
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


def called(
    function: Callable[..., Any], given: object, context: JobContext | None, arguments: Arguments
) -> Any:
    """Call a handler's function.

    Args:
        function: The function.
        given: The upload, or the list of them.
        context: What it knows of its job, if it wants to.
        arguments: What else it is called with.
    """
    positional, named = arguments.fresh()
    first = [given] if context is None else [given, context]
    return function(*first, *positional, **named)


def _is_context(annotation: Any) -> bool:
    # With `from __future__ import annotations` it is text, perhaps not to be evaluated here.
    if isinstance(annotation, str):
        return re.search(rf"\b{JobContext.__name__}\b", annotation) is not None
    return annotation is JobContext or JobContext in get_args(annotation)
