"""Giving a stored file its final name: ours beside the copies that people make themselves.

The clock runs from the complete upload to the file under its name.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import aiofiles

from starlette_upload_keepalive import Upload, Uploads, detach

from .forms import MB, MIB, noise
from .measure import MILLISECONDS, Bench, Contender, WrongResult

MEMORY = Path("/dev/shm")

# Stores a file in a directory, saves it under a name, and returns the seconds that this takes.
Save = Callable[[Path, Path, int], Awaitable[float]]


async def run(bench: Bench) -> None:
    """Save on the same filesystem, and from another one."""
    size = bench.pick(1000 * MB, quick=3 * MB)
    with ExitStack() as stack:
        here = _directory(stack, Path(tempfile.gettempdir()))
        await _race(bench, f"Save {size / MB:g} MB on the same filesystem", here, here, size)
        if _is_another_filesystem(MEMORY, here):
            memory = _directory(stack, MEMORY)
            await _race(bench, f"Save {size / MB:g} MB from memory to disk", memory, here, size)
        else:
            print(f"\nNothing is saved across filesystems: {MEMORY} is no other one.")


def _is_another_filesystem(path: Path, than: Path) -> bool:
    return path.is_dir() and path.stat().st_dev != than.stat().st_dev


def _directory(stack: ExitStack, parent: Path) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent)))


async def _race(bench: Bench, title: str, source: Path, target: Path, size: int) -> None:
    contenders = [contender(name, save, source, target, size) for name, save in WAYS.items()]
    await bench.race(title, MILLISECONDS, contenders)


def contender(name: str, save: Save, source: Path, target: Path, size: int) -> Contender:
    """Race a way to save a file that lies in one directory into another."""
    destination = target / "saved.bin"

    async def run() -> Sequence[float]:
        seconds = await save(source, destination, size)
        destination.unlink()
        return [seconds]

    async def check() -> None:
        await save(source, destination, size)
        with destination.open("rb") as file:
            same = (
                all(file.read(len(chunk)) == chunk for chunk in _chunks(size)) and not file.read()
            )
        destination.unlink()
        if not same:
            raise WrongResult(f"{name} has not saved what was stored.")

    return Contender(name, run, check)


# The ways


async def copyfileobj(source: Path, destination: Path, size: int) -> float:
    """Copy as the documentation of FastAPI does, in a thread."""

    def copy(file: IO[bytes]) -> None:
        with destination.open("wb") as target:
            shutil.copyfileobj(file, target)

    with tempfile.TemporaryFile(dir=source) as file:
        _fill(file, size)
        start = time.perf_counter()
        await asyncio.to_thread(copy, file)
        return time.perf_counter() - start


async def by_aiofiles(source: Path, destination: Path, size: int) -> float:
    """Copy by aiofiles, a MiB at a time."""
    with tempfile.TemporaryFile(dir=source) as file:
        _fill(file, size)
        start = time.perf_counter()
        async with aiofiles.open(destination, "wb") as target:
            while chunk := await asyncio.to_thread(file.read, MIB):
                await target.write(chunk)
        return time.perf_counter() - start


def _fill(file: IO[bytes], size: int) -> None:
    for chunk in _chunks(size):
        file.write(chunk)
    file.flush()
    file.seek(0)


async def last_owner(source: Path, destination: Path, size: int) -> float:
    """Save, nobody else owning the upload."""
    async with await _uploaded(source, size) as upload:
        return await _save(upload, destination)


async def one_of_two_owners(source: Path, destination: Path, size: int) -> float:
    """Save while somebody else owns it, too."""
    async with await _uploaded(source, size) as upload, detach(upload):
        return await _save(upload, destination)


async def _save(upload: Upload, destination: Path) -> float:
    start = time.perf_counter()
    await upload.save(destination)
    return time.perf_counter() - start


async def _uploaded(directory: Path, size: int) -> Upload:
    async def chunks() -> AsyncGenerator[bytes, None]:
        for chunk in _chunks(size):
            yield chunk

    return await Upload.from_stream(chunks(), storage=Uploads(directory=directory).storage)


def _chunks(size: int) -> list[bytes]:
    count, rest = divmod(size, MIB)
    block = noise(MIB)
    return [*[block] * count, block[:rest]]


WAYS: dict[str, Save] = {
    "shutil.copyfileobj, in a thread": copyfileobj,
    "aiofiles, 1 MiB at a time": by_aiofiles,
    "this package, last owner": last_owner,
    "this package, one of two owners": one_of_two_owners,
}
