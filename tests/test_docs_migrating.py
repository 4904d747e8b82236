"""Each workaround that the docs show works as they tell, and so does what takes its place."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import fastapi
import pytest
from sybil.example import Example

from tests.asgi import lifespan
from tests.celery_pollers import pollers_closed
from tests.pages import client_of, python_path, run_alone, sections

SECTIONS = sections("docs/migrating.md")
SMALL, LARGE = b"data", bytes(2_000_000)
# It has no types.
KOMBU_POOLS: Any = importlib.import_module("kombu.pools")
FASTAPI = tuple(int(number) for number in fastapi.__version__.split(".")[:2])

both_sizes = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["in memory", "on disk"])


def shown(title: str) -> list[Example]:
    (found,) = [examples for name, examples in SECTIONS.items() if title in name]
    return found


@asynccontextmanager
async def started(page: Any) -> AsyncGenerator[Any, None]:
    """Start an app as a server does, and give a client of it."""
    with anyio.fail_after(20):
        async with lifespan(page.app), client_of(page.app) as client:
            yield client


async def add_photo(client: Any, data: bytes) -> Any:
    answer = await client.post("/photos", files={"photo": ("a.jpg", data)})
    assert answer.status_code == 202
    return answer.json()


def sizes_in(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.iterdir()]


def test_every_section_has_both_ways() -> None:
    assert [len(examples) for examples in SECTIONS.values()] == [2, 2, 2, 3, 2, 2, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("way", [0, 1], ids=["before", "after"])
@both_sizes
async def test_a_wrapper_whose_close_does_nothing(way: int, data: bytes) -> None:
    page = run_alone(shown("A wrapper")[way])
    async with started(page) as client:
        await add_photo(client, data)
        while page.tasks:
            await asyncio.wait(page.tasks)
    assert page.sizes == {"a.jpg": len(data)}


@pytest.mark.anyio
@pytest.mark.parametrize("title", ["`BytesIO`", "Saving in chunks", "`BackgroundTasks` given"])
@pytest.mark.parametrize("way", [0, 1], ids=["before", "after"])
@both_sizes
async def test_work_within_the_process(title: str, way: int, data: bytes) -> None:
    page = run_alone(shown(title)[way])
    closed = "`BackgroundTasks`" in title and way == 0 and FASTAPI < (0, 118)
    async with started(page) as client:
        if closed:
            with pytest.raises(ValueError, match="closed file"):
                await add_photo(client, data)
        else:
            await add_photo(client, data)
    assert page.sizes == ({} if closed else {"a.jpg": len(data)})


@pytest.mark.anyio
@pytest.mark.parametrize("way", [0, 1], ids=["before", "after"])
@both_sizes
async def test_a_spool_of_your_own(
    way: int, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOL", str(tmp_path))
    page = run_alone(shown("A spool")[way])
    async with started(page) as client:
        photo = await add_photo(client, data)
        if way == 0:
            while not page.sizes:
                await anyio.lowlevel.checkpoint()
    assert page.sizes == {photo: len(data)}
    assert sizes_in(tmp_path) == []


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the app and its workers see."""
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv("SHARED", str(folder))
    return folder


@pytest.fixture(scope="module")
def redis_socket() -> Generator[str, None, None]:
    """Run a Redis of our own. The path of its socket must be short."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server")
    with TemporaryDirectory(prefix="redis-") as folder:
        options = ["--port", "0", "--unixsocket", f"{folder}/socket", "--save", ""]
        with subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            assert any("ready to accept" in line.lower() for line in server.stdout)
            yield f"{folder}/socket"
            server.terminate()


@pytest.fixture
def redis_urls(redis_socket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER", f"redis+socket://{redis_socket}")
    monkeypatch.setenv("BACKEND", f"redis+socket://{redis_socket}")
    monkeypatch.setenv("REDIS_URL", f"unix://{redis_socket}")


def imported(example: Example, name: str, folder: Path) -> Any:
    """Run an example as a module that a worker in that folder can import, too."""
    (folder / f"{name}.py").write_text(str(example.parsed))
    return run_alone(example, name)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": python_path()}


@contextmanager
def worker(folder: Path, *command: str) -> Generator[None, None, None]:
    """Run a worker of a queue. It is asked to stop at the end, if it has not."""
    whole = [sys.executable, "-m", *command]
    with subprocess.Popen(whole, cwd=folder, env=environment()) as process:
        try:
            yield
        finally:
            process.terminate()


def celery_result(page: Any, task_id: str, folder: Path) -> Any:
    """Let a Celery worker do what is queued, and ask for a result as the app can."""
    app = f"--app={page.__name__}:celery"
    with worker(folder, "celery", app, "--quiet", "worker", "--pool=solo", "--loglevel=ERROR"):
        return page.celery.AsyncResult(task_id).get(timeout=30)


closed_pollers = pytest.fixture(pollers_closed)


def close_connections(celery: Any) -> None:
    """Close what a Celery app keeps open for its next call."""
    celery.backend.result_consumer.stop()
    celery.backend.client.connection_pool.disconnect()
    celery.close()
    KOMBU_POOLS.reset()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("way", "data"), [("before", SMALL), ("after", SMALL), ("after", LARGE), ("handed_over", LARGE)]
)
@pytest.mark.usefixtures("redis_urls", "closed_pollers")
async def test_celery(way: str, data: bytes, shared: Path, tmp_path: Path) -> None:
    example = shown("Celery")[["before", "after", "handed_over"].index(way)]
    # Celery shares tasks among the apps of a process, so let none have the name of another.
    page = imported(example, f"photos_{way}_{len(data)}", tmp_path)
    if way != "after":
        page.celery.conf.result_backend_thread_safe = True  # one to close, and not one per thread
    async with started(page) as client:
        answer = await add_photo(client, data)
        if way != "before":
            answer = (await page.uploads.jobs.get(answer).wait()).result
    if way != "after":
        assert sizes_in(shared) == [len(data)]
        answer = await anyio.to_thread.run_sync(celery_result, page, answer, tmp_path)
        close_connections(page.celery)
    assert answer == len(data)
    assert sizes_in(shared) == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("way", ["before", "after"])
@both_sizes
@pytest.mark.usefixtures("redis_urls")
async def test_rq(way: str, data: bytes, shared: Path, tmp_path: Path) -> None:
    example = shown("RQ")[["before", "after"].index(way)]
    page = imported(example, "photos", tmp_path)
    async with started(page) as client:
        job_id = await add_photo(client, data)
        if way == "before":
            assert sizes_in(shared) == [len(data)]
            result = await anyio.to_thread.run_sync(rq_result, page, job_id, tmp_path)
        else:
            await page.uploads.jobs.get(job_id).wait()
            result = (await client.get(f"/jobs/{job_id}")).json()["result"]
    assert result == len(data)
    assert sizes_in(shared) == []


def rq_result(page: Any, job_id: str, folder: Path) -> Any:
    """Let an RQ worker do what is queued, and ask for a result as the app can."""
    with page.queue.connection as connection:
        url = connection.connection_pool.connection_kwargs["path"]
        command = [sys.executable, "-m", "rq.cli", "worker", "--burst", f"--url=unix://{url}"]
        subprocess.run(command, cwd=folder, env=environment(), check=True)
        return page.queue.fetch_job(job_id).return_value()
