"""Handlers in processes of their own, on real servers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.processing import is_alive
from tests.servers import KINDS, Server, eventually, form, running
from tests.spooled import entries, make_root

DATA = "some bytes of a file"

each_kind = pytest.mark.parametrize("kind", KINDS)


def submit(server: Server, handler: str) -> str:
    answer = server.post(f"/{handler}", form(DATA.encode(), "photo"))
    assert answer.status == 202
    job_id: str = answer.json()
    return job_id


def shown(server: Server, job_id: str, what: str) -> Any:
    """Wait until the job has that."""
    return eventually(lambda: server.get(f"/jobs/{job_id}").json()[what])


@each_kind
@pytest.mark.parametrize("spool", [False, True], ids=["memory", "spool"])
def test_jobs_from_the_first_to_the_shutdown(kind: str, spool: bool, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    env = {"SERVER_APP_SPOOL": str(root)} if spool else {}
    with running(kind, tmp_path / "server", app="tests.process_app:app", env=env) as server:
        crashing = submit(server, "segfaults")
        assert shown(server, submit(server, "tells_attempt"), "result") == [1, DATA]
        assert shown(server, crashing, "error") == (
            "HandlerCrashed: The process of segfaults was killed by SIGSEGV."
        )
        opened = shown(server, submit(server, "descriptors"), "result")
        assert opened.pop("0") == os.devnull
        assert {opened.pop("1"), opened.pop("2")} == {str(server.directory / "log")}
        # No connection, and nothing that the server listens on.
        file, lifeline, channel = sorted(opened.values())
        assert os.path.commonpath([file, tmp_path]) == str(tmp_path)
        assert [lifeline.partition(":")[0], channel.partition(":")[0]] == ["pipe", "socket"]
        waiting = submit(server, "tells_and_waits")
        pids = [int(pid) for pid in shown(server, waiting, "progress").split()]
        assert all(map(is_alive, pids))
        server.stop()
        assert server.log.count("Traceback") == 1  # that of the crash
    eventually(lambda: not any(map(is_alive, pids)))
    assert os.listdir(server.directory / "temporary") == []
    if spool:
        assert [entry.id for entry in entries(root, "ready")] == [waiting]
        assert [entry.id for entry in entries(root, "dead")] == [crashing]
