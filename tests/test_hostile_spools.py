"""A server whose spool somebody has tampered with does not start, or keeps away from it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from starlette_upload_keepalive import DirectorySpool
from tests.hostile.bodies import GOOD, HANDLERS
from tests.hostile.site import SERVERS
from tests.servers import eventually, running
from tests.spooling import Maker, die, released

APP = "tests.hostile.app:recorded"

each_server = pytest.mark.parametrize("kind", SERVERS)


@each_server
@pytest.mark.parametrize(
    ("wrong", "told"),
    [("a link", "is a symbolic link"), ("open to all", "Take that away: chmod 700")],
)
def test_server_does_not_start(
    kind: str, wrong: str, told: str, root: Path, tmp_path: Path
) -> None:
    spool = root
    if wrong == "a link":
        spool = tmp_path / "link"
        spool.symlink_to(root)
    else:
        root.chmod(0o777)
    with (
        pytest.raises(pytest.fail.Exception, match="ended before it began") as failed,
        running(kind, tmp_path / "server", app=APP, env={"SERVER_APP_SPOOL": str(spool)}),
    ):
        pass
    assert told in str(failed.value)
    assert list(root.iterdir()) == []


@each_server
def test_server_sets_aside_what_is_no_job(
    kind: str, root: Path, tmp_path: Path, maker: Maker
) -> None:
    """A named pipe would hold up who reads it, and an id is part of a path."""
    spool = DirectorySpool(root)
    spool.open(maker.storage)
    released(spool, maker.job(b"data", handler="read_in_thread"))
    die(spool)
    (record,) = (root / "ready").glob("*/job.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "id": "../../x"}))
    os.mkfifo(root / "ready" / "pipe")
    before = set(tmp_path.iterdir())

    env = {"SERVER_APP_SPOOL": str(root)}
    with running(kind, tmp_path / "server", app=APP, env=env) as server:
        eventually(lambda: len(list((root / "corrupt").iterdir())) == 2)
        assert server.post("/form", GOOD).status == 200
        eventually(lambda: len(server.records("job")) >= HANDLERS)
        server.stop()
        assert len(server.records("job")) == HANDLERS
    assert list((root / "ready").iterdir()) == []
    assert set(tmp_path.iterdir()) == {*before, tmp_path / "server"}
