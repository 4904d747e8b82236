"""What a job knows of its handler, and of what runs it. Neither is known to it otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from starlette_upload_keepalive.events import Hooks
from starlette_upload_keepalive.files.upload import Upload
from starlette_upload_keepalive.processes.import_name import ImportName

from .options import HandlerOptions, RunIn

Keep = Callable[[Sequence[Any]], Awaitable[None]]
"""Has jobs on the disk when it returns, all or none; raises an ``OSError`` if it can't."""


class Work(Protocol):
    """What a job runs: a handler, as the runner sees it."""

    name: str
    run_in: RunIn
    options: HandlerOptions
    hooks: Hooks
    many: bool
    import_name: ImportName | None

    def invoke(self, job: Any, uploads: list[Upload]) -> Any:
        """Call the function."""


class JobRunner(Protocol):
    """What a job was published to."""

    @property
    def in_this_loop(self) -> bool:
        """Whether the caller runs in its event loop."""
        ...

    def publish(self, job: Any) -> bool:
        """Let the job wait for its turn; False if no more are taken."""
        ...

    def cancel(self, job: Any) -> bool:
        """End the job; False if it is done."""
        ...

    def hurry(self, job: Any) -> bool:
        """Let it wait for its turn, if it is delayed; False if it is not."""
        ...
