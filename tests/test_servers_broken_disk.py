"""P9: a real server whose spool is removed under it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.servers import UVICORNS, Gate, eventually, form, running
from tests.spooled import entries, make_root, names

SMALL, LARGE = b"data", b"x" * 2_000_000  # in memory, and on the disk


def is_removed(root: Path) -> bool:
    """Remove it; what the server writes meanwhile is removed the next time."""
    shutil.rmtree(root, ignore_errors=True)
    return not root.exists()


@pytest.mark.parametrize("kind", UVICORNS)
def test_a_root_that_is_removed_while_jobs_run(kind: str, tmp_path: Path) -> None:
    """Clients are refused, what runs goes on, and the server ends when it is told to."""
    root = make_root(tmp_path)
    env = {"SERVER_APP_SPOOL": str(root)}
    with running(kind, tmp_path / "life-1", env=env) as server, Gate() as gate:
        answer = server.post(f"/work?gate={gate.port}", form(LARGE, "runs"))
        assert (answer.status, len(answer.json())) == (202, 2)
        gate.wait_for(2)
        eventually(lambda: len(server.records("job")) == 2)
        eventually(lambda: is_removed(root))

        def refuse() -> None:
            for data in (SMALL, LARGE):
                assert server.post("/status/202", form(data, "refused")).status == 500

        refuse()
        before = eventually(lambda: server.get("/state").json())
        for _ in range(3):
            refuse()
        eventually(lambda: server.get("/state").json() == before)
        gate.open()
        eventually(lambda: len(server.records("worked")) == 2)
        assert f"start the app again: The spool's directory '{root}' does not exist" in server.log
        server.stop()
        assert len(server.records("job")) == 2

    with (
        pytest.raises(pytest.fail.Exception, match="mkdir -p -m 700"),
        running(kind, tmp_path / "life-2", env=env),
    ):
        pass
    make_root(tmp_path)
    with running(kind, tmp_path / "life-3", env=env) as server:
        for data in (SMALL, LARGE):
            assert server.post("/status/202", form(data, "later")).status == 202
        eventually(lambda: len(entries(root, "done")) == 4)
        server.stop()
        assert "Traceback" not in server.log
    assert names(root, "owners") == names(root, "claimed") == names(root, "ready") == []
