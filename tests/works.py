"""A handler as its jobs see it, without an app around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from starlette_upload_keepalive import Job, Upload
from starlette_upload_keepalive.events import Hooks
from starlette_upload_keepalive.jobs.arguments import Arguments
from starlette_upload_keepalive.jobs.options import HandlerOptions, RunIn
from starlette_upload_keepalive.processes.import_name import ImportName


@dataclass(eq=False)
class FakeWork:
    """Stands for a handler: what it is called and was registered with."""

    name: str = "thumbnail"
    run_in: RunIn = "loop"
    options: HandlerOptions = field(default_factory=HandlerOptions)
    hooks: Hooks = field(default_factory=Hooks)
    many: bool = False
    import_name: ImportName | None = None

    def invoke(self, job: Job[Any], uploads: list[Upload]) -> Any:
        raise NotImplementedError


def made(
    uploads: Sequence[Upload],
    work: FakeWork | None = None,
    *,
    on_done: Callable[[Job[Any]], object] = lambda _: None,
    keep: bool = False,
) -> Job[Any]:
    """Make a job that tells when it is done."""

    def done(job: Job[Any]) -> bool:
        on_done(job)
        return keep

    work = FakeWork() if work is None else work
    return Job(work, uploads, Arguments(), context=copy_context(), on_done=done)


def made_of_nothing(
    work: FakeWork | None = None, *, on_done: Callable[[Job[Any]], object] = lambda _: None
) -> Job[Any]:
    """Make a job whose files are gone already."""
    with Upload.from_bytes(b"") as upload:
        job = made([upload], work, on_done=on_done)
    job._let_go()
    return job
