"""An app whose handler runs in a process of its own, to be killed.

``python -m tests.process_parent HANDLER [ROOT]``: that of `process_handlers`, on that spool.
"""

from __future__ import annotations

import sys
from functools import partial

import anyio

from starlette_upload_keepalive import DirectorySpool, Uploads
from tests import process_handlers
from tests.processing import processed, told
from tests.stored import make_upload


async def main(function: str, root: str | None = None) -> None:
    uploads = Uploads(spool=None if root is None else DirectorySpool(root))
    handler = processed(uploads, getattr(process_handlers, function), name="work")
    async with uploads.running():
        with make_upload(uploads.storage, b"data") as upload:
            job = await handler.enqueue(upload)
        print(*await told(job), flush=True)
        await job.wait()


if __name__ == "__main__":
    anyio.run(partial(main, *sys.argv[1:]))
