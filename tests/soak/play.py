"""The soak: servers, clients, the killer, and the verdict."""

from __future__ import annotations

import math
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGTERM

import uvicorn

from starlette_upload_keepalive import DirectorySpool
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.spool import Spool
from starlette_upload_keepalive.spool.layout import CLAIMED, READY
from tests.servers import HOST

from .app import make_app
from .clients import read_notes, upload_until
from .journal import Journal, read_journal
from .processes import Life, fork, wait_for
from .requests import Sent
from .verdict import runs_by_job, violations

MakeSpool = Callable[[Path], Spool]


@dataclass(frozen=True)
class Size:
    """How much is played.

    Attributes:
        kills: How many servers are killed, or told to end.
        stops: How large a share of those are told.
        servers: How many run at once.
        clients: How many upload at once.
        seconds_between: The mean time from kill to kill.
        seconds_to_stop: How long one may take that was told to end, before it is killed.
        seconds_to_drain: How long the last jobs may take.
    """

    kills: int
    stops: float = 0.1
    servers: int = 4
    clients: int = 4
    seconds_between: float = 0.1
    seconds_to_stop: float = 2.0
    seconds_to_drain: float = 60.0


@dataclass(frozen=True)
class Report:
    """What came of it.

    Attributes:
        violations: What broke a promise.
        kills: How many servers were killed, or told to end.
        stops: How many of those were told, and ended in time.
        requests: How many were sent.
        acknowledged: How many of those the clients were told to be accepted.
        jobs: How many ran.
        again: How many runs there were beyond one each, but for those that had failed.
        seconds: How long it took.
    """

    violations: list[str]
    kills: int
    stops: int
    requests: int
    acknowledged: int
    jobs: int
    again: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.stops} of them shutdowns), "
            f"{self.requests} requests ({self.acknowledged} acknowledged), "
            f"{self.jobs} jobs ({self.again} runs again after one) in {self.seconds:.0f} s: "
            f"{len(self.violations)} violations"
        )


class Soak:
    """Servers on one spool that are killed, and clients that upload.

    Args:
        directory: An empty one, for all that they write.
        make_spool: Makes the spool of one process.
        size: How much is played.
    """

    def __init__(self, directory: Path, make_spool: MakeSpool, size: Size) -> None:
        self._directory = directory
        self._make_spool = make_spool
        self._size = size
        self._root = directory / "spool"
        self._root.mkdir(mode=0o700)
        self._journal = directory / "journal"
        self._journal.touch()
        self._stop = directory / "stop"
        self._lives: list[Life] = []
        self._stopping: list[Life] = []

    def play(self) -> Report:
        """Play it to its end."""
        began = time.monotonic()
        with socket.create_server((HOST, 0), backlog=1000) as listener:
            clients = [self._start_client(listener, number) for number in range(self._size.clients)]
            living = [self._start_server(listener) for _ in range(self._size.servers)]
            for _ in range(self._size.kills):
                time.sleep(random.expovariate(1 / self._size.seconds_between))
                self._look_after_stopping()
                place = random.randrange(len(living))
                self._end(living[place])
                living[place] = self._start_server(listener)
            while self._stopping:
                time.sleep(0.01)
                self._look_after_stopping()
            self._stop.touch()
            codes = [wait_for(client) for client in clients]
            drained = self._wait_until_drained()
        for life in living:
            life.stop()
        codes += [life.code for life in self._lives if life.code is not None]
        codes += [1 for life in self._lives if self._has_raised(life)]
        # uvicorn ends by the signal that it was asked to end by, once it has done so; a process
        # that does not serve yet, at once.
        good = (0, -SIGTERM, -SIGINT)
        wrong = [f"processes ended with {set(codes)}" for code in codes if code not in good][:1]
        if not drained:
            wrong.append(f"jobs wait still, after {self._size.seconds_to_drain} seconds")
        return self._report(wrong, time.monotonic() - began)

    def _start_server(self, listener: socket.socket) -> Life:
        number = len(self._lives)
        self._log_of(number).touch()
        life = Life(number, fork(partial(self._serve, listener, number), self._log_of(number)))
        self._lives.append(life)
        return life

    def _serve(self, listener: socket.socket, life: int) -> None:
        app = make_app(self._make_spool(self._root), Journal(self._journal, life))
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on")
        uvicorn.Server(config).run(sockets=[listener])

    def _log_of(self, life: int) -> Path:
        return self._directory / f"log-{life}"

    def _has_raised(self, life: Life) -> bool:
        # At a second interrupt uvicorn tells of the requests that it cancels.
        return len(life.told) < 2 and "Traceback" in self._log_of(life.number).read_text()

    def _end(self, life: Life) -> None:
        """Kill a server, or tell it to end."""
        if random.random() < self._size.stops:
            life.tell(random.choice([SIGTERM, SIGINT]))
            self._stopping.append(life)
        else:
            life.kill()

    def _look_after_stopping(self) -> None:
        """Tell some of those once more that were told to end, and kill those that don't."""
        self._stopping = [life for life in self._stopping if not life.has_ended()]
        for life in self._stopping.copy():
            if time.monotonic() > life.told_at + self._size.seconds_to_stop:
                life.kill()
                self._stopping.remove(life)
            elif len(life.told) == 1 and random.random() < 0.3:
                life.tell(life.told[0])

    def _start_client(self, listener: socket.socket, number: int) -> int:
        port: int = listener.getsockname()[1]
        notes = self._directory / f"client-{number}"
        upload = partial(upload_until, self._stop.exists, port, f"{number}", notes)
        return fork(upload, self._directory / "log-of-clients")

    def _wait_until_drained(self) -> bool:
        deadline = time.monotonic() + self._size.seconds_to_drain
        while any((self._root / READY).iterdir()) or any((self._root / CLAIMED).glob("*/*")):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _report(self, wrong: list[str], seconds: float) -> Report:
        sweep(self._root)
        sent: list[Sent] = []
        for number in range(self._size.clients):
            sent += read_notes(self._directory / f"client-{number}")
        lines = read_journal(self._journal)
        jobs = runs_by_job(lines)
        raised = sum(line.what == "raised" for line in lines)
        return Report(
            violations=wrong + violations(sent, lines, self._lives, self._root),
            kills=self._size.kills,
            stops=self._size.kills - sum(life.killed_at < math.inf for life in self._lives),
            requests=len(sent),
            acknowledged=sum(request.acknowledged for request in sent),
            jobs=len(jobs),
            again=sum(map(len, jobs.values())) - len(jobs) - raised,
            seconds=seconds,
        )


def sweep(root: Path) -> None:
    """Remove what is needed no more, as the next start would."""
    spool, storage = DirectorySpool(root), Storage()
    spool.open(storage)
    spool.sweep()
    spool.close()
