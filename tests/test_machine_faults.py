"""P7: the machine runs out of what uploads need, under a real server that serves on."""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.servers import FORM, UVICORNS, Connection, Server, eventually, form, head, running

MIB = 1024 * 1024
# In memory; and on the disk, to be closed by a thread.
SMALL, LARGE = b"data", os.urandom(5 * MIB)
SPACE = 8 * MIB

each_kind = pytest.mark.parametrize("kind", UVICORNS)


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path]:
    """A directory on a small filesystem of its own."""
    directory = tmp_path / "disk"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SPACE}", "tmpfs", str(directory)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount(8) here")
    if mounted.returncode != 0:
        pytest.skip(f"only root may mount a filesystem: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def mount_again(directory: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(directory)], check=True)


def options(directory: Path, **limits: int) -> dict[str, str]:
    return {"SERVER_APP_UPLOADS": str(directory), "SERVER_APP_LIMITS": json.dumps(limits)}


def post(server: Server, data: bytes) -> int:
    """Send a file that no handler knows."""
    with server.connect() as connection:
        return finish(connection, head_of(data), form(data, "a", field="file"))


def head_of(data: bytes) -> bytes:
    return head("POST", "/size", len(form(data, "a", field="file")))


def post_of_unknown_size(server: Server, data: bytes) -> int:
    """Send a file so that nobody knows how much there is to come."""
    lines = [
        "POST /size HTTP/1.1",
        "host: x",
        f"content-type: {FORM}",
        "transfer-encoding: chunked",
    ]
    body = form(data, "a", field="file")
    with server.connect() as connection:
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return finish(connection, ("\r\n".join(lines) + "\r\n\r\n").encode(), chunk)


def finish(connection: Connection, *rest: bytes) -> int:
    """Send what is left of a request, and return the status of the answer."""
    send(connection, *rest)
    return connection.receive().status


def send(connection: Connection, *pieces: bytes) -> None:
    """Send some of a request that may be answered, and the rest not be received, before that."""
    with suppress(ConnectionError):
        connection.send(*pieces)


@contextmanager
def serving(
    kind: str, directory: Path, env: Mapping[str, str]
) -> Generator[tuple[Server, Callable[[], None]]]:
    """Run a server, and check at the end that it is as it was.

    Yields:
        The server, and what checks that it has recovered.
    """
    with running(kind, directory, app="app", env=env) as server:
        for data in (SMALL, LARGE):
            assert post(server, data) == 200
        baseline: dict[str, Any] = eventually(server.settled)

        def check_recovered() -> None:
            """P2: nothing is left behind, and the next uploads are stored."""
            for data in (SMALL, LARGE):
                assert post(server, data) == 200
            eventually(lambda: server.get("/state").json() == baseline)

        yield server, check_recovered
        check_recovered()
        server.stop()
        assert "was not closed by" not in server.log


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


# No descriptor left


@each_kind
def test_no_descriptor_left(kind: str, tmp_path: Path) -> None:
    """Some uploads are refused, some are stored, and each is answered."""
    clients, files = 30, 6
    body = form(LARGE, "a", field="file")
    with (
        serving(kind, tmp_path, {}) as (server, check_recovered),
        ExitStack() as stack,
    ):
        connections = [stack.enter_context(server.connect()) for _ in range(clients)]
        for each in connections:  # which are all accepted then
            assert each.request("GET", "/state").status == 200
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        few = (descriptors(server) + files, hard)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, few)

        with ThreadPoolExecutor(clients) as pool:
            # All but their ends, so that those who got a descriptor keep it.
            sending = [pool.submit(send, each, head_of(LARGE), body[:-9]) for each in connections]
            refused, _, _ = select.select([each.fileno() for each in connections], [], [], 20)
            assert refused
            for sent in sending:
                sent.result()
            ends = [body[-9:]] * clients
            answers = Counter(pool.map(finish, connections, ends))
        stack.close()
        assert set(answers) == {200, 503}, answers
        assert "could not be stored" in server.log
        assert os.strerror(24) in server.log  # EMFILE
        check_recovered()  # with few descriptors still


# No space left


@each_kind
def test_no_space_left(kind: str, tmp_path: Path, disk: Path) -> None:
    """Whether the server is told how much will come, or finds out while it comes."""
    too_large = bytes(SPACE + 1)
    with serving(kind, tmp_path / "server", options(disk, min_free_space=0)) as (server, recovered):
        for _ in range(3):
            assert post(server, too_large) == 507
            assert post_of_unknown_size(server, too_large) == 507
        assert "No space left on device" in server.log
        recovered()

        (disk / "of somebody else").write_bytes(bytes(SPACE - MIB))
        for send_one in (post, post_of_unknown_size):
            assert send_one(server, LARGE) == 507
            assert send_one(server, SMALL) == 200  # in memory
        (disk / "of somebody else").unlink()


@each_kind
def test_what_fits_alone_and_not_together(kind: str, tmp_path: Path, disk: Path) -> None:
    """One that is refused harms none that is stored already, and leaves its place to the next."""
    half = bytes(SPACE // 2)
    body = form(half, "a", field="file")
    with serving(kind, tmp_path / "server", options(disk, min_free_space=0)) as (server, recovered):
        free = shutil.disk_usage(disk).free
        with server.connect() as first:
            first.send(head_of(half), body[:-9])
            eventually(lambda: shutil.disk_usage(disk).free < free)
            assert post_of_unknown_size(server, bytes(SPACE - MIB)) == 507
            assert finish(first, body[-9:]) == 200
        eventually(lambda: shutil.disk_usage(disk).free == free)
        assert post_of_unknown_size(server, bytes(SPACE - MIB)) == 200
        recovered()


# A directory that is gone, or may not be written


@pytest.mark.parametrize("state", ["missing", "read-only"])
def test_a_directory_that_can_not_be_used_at_the_start(
    tmp_path: Path, disk: Path, state: str
) -> None:
    """The server does not start, and says what to do."""
    directory = disk if state == "read-only" else tmp_path / "missing"
    mount_again(disk, "ro")
    told = {
        "missing": f"directory '{directory}' is no directory: create it first.",
        "read-only": f"directory '{directory}' can't be written: allow this user to.",
    }
    with (
        pytest.raises(pytest.fail.Exception) as failed,
        running(UVICORNS[0], tmp_path / "server", env=options(directory)),
    ):
        pass
    assert told[state] in str(failed.value)


@each_kind
def test_a_directory_that_is_removed(kind: str, tmp_path: Path) -> None:
    """What is stored already stays; what comes is refused, until the directory is there again."""
    directory = tmp_path / "uploads"
    directory.mkdir()
    body = form(LARGE, "a", field="file")
    with serving(kind, tmp_path / "server", options(directory)) as (server, check_recovered):
        with server.connect() as before:
            before.send(head_of(LARGE), body[:-9])
            eventually(lambda: "/uploads/" in str(server.get("/state").json()["descriptors"]))
            directory.rmdir()
            for _ in range(3):
                for send_one in (post, post_of_unknown_size):
                    assert send_one(server, LARGE) == 500
                    assert send_one(server, SMALL) == 200  # in memory
            assert finish(before, body[-9:]) == 200
        assert f"No such file or directory: '{directory}'" in server.log
        directory.mkdir()
        check_recovered()


@each_kind
def test_a_directory_that_becomes_read_only(kind: str, tmp_path: Path, disk: Path) -> None:
    """As the kernel makes those of a disk that has failed."""
    with serving(kind, tmp_path / "server", options(disk, min_free_space=0)) as (server, recovered):
        mount_again(disk, "ro")
        for send_one in (post, post_of_unknown_size):
            assert send_one(server, LARGE) == 500
            assert send_one(server, SMALL) == 200  # in memory
        assert f"Read-only file system: '{disk}'" in server.log
        mount_again(disk, "rw")
        recovered()


def test_the_mount_is_seen(disk: Path) -> None:
    """Else the tests above would fill a larger disk, or none."""
    assert shutil.disk_usage(disk).total == SPACE
