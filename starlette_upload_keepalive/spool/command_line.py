"""The command line for people who look after a spool, while apps use it or not."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from starlette_upload_keepalive.exceptions import SpoolUnusable
from starlette_upload_keepalive.files.printable import printable
from starlette_upload_keepalive.jobs.job_state import DONE, JobState
from starlette_upload_keepalive.jobs.spool import KeptJob

from .catalog import Catalog
from .checking import check
from .disk import Disk
from .layout import FOLDERS
from .obstacles import Obstacles
from .root import check_root
from .sweeping import empty_trash

_DONE = sorted(state.value for state in DONE)
_STATES = [state.value for state in JobState if state is not JobState.STAGED]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHORT = 12  # digits of an id that a table shows


class _Refused(Exception):
    """What was asked for can't be done. It says why, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Those of the command line; those of this process if None.

    Returns:
        The exit code: 0, or 1 if something is wrong.
    """
    options = _parser().parse_args(arguments)
    disk = Disk(Path(options.directory))
    try:
        return _run(options, disk)
    except BrokenPipeError:  # whoever reads it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (_Refused, SpoolUnusable, OSError) as error:
        _write_error(error)
        return 1
    finally:
        disk.close()


def _run(options: argparse.Namespace, disk: Disk) -> int:
    check_root(disk.root, allow_network=True)
    disk.open()
    if not set(FOLDERS) & set(disk.names(".")):
        raise _Refused(
            f"{disk.root} holds no spool: none of its folders is there. Give the directory that "
            "the app gives to DirectorySpool(...)."
        )
    code = _COMMANDS[options.command](options, disk)
    sys.stdout.flush()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m starlette_upload_keepalive")
    spool = parser.add_subparsers(required=True, metavar="spool").add_parser(
        "spool", help="look after a spool", description="Look after a spool."
    )
    spool.add_argument("directory", metavar="DIR", help="what DirectorySpool(...) was given")
    commands = spool.add_subparsers(dest="command", required=True)

    listing = commands.add_parser("list", help="list the jobs, the oldest first")
    listing.add_argument("--state", choices=_STATES, help="only those in this state")
    listing.add_argument("--handler", help="only those of this handler")
    showing = commands.add_parser("show", help="show all of a job")
    showing.add_argument("id", help="its id, or the beginning of it")
    retrying = commands.add_parser("retry", help="let jobs that have failed run once more")
    retrying.add_argument("id", nargs="+", help="an id, or the beginning of it")
    cancelling = commands.add_parser("cancel", help="end jobs that wait")
    cancelling.add_argument("id", nargs="+", help="an id, or the beginning of it")
    purging = commands.add_parser("purge", help="forget jobs that are done, and their files")
    purging.add_argument("--state", choices=_DONE, help="only those in this state")
    purging.add_argument(
        "--before", type=_age, metavar="AGE", help="only those done longer ago: 90s, 30m, 12h, 7d"
    )
    purging.add_argument("--all", action="store_true", help="all that are done")
    checking = commands.add_parser("check", help="look for what is wrong; exit code 1 if there is")
    for command in (listing, showing, checking):
        command.add_argument("--json", action="store_true", help="write JSON")
    return parser


def _age(text: str) -> int:
    found = re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age such as 90s, 30m, 12h or 7d")
    return int(found[1]) * _UNITS[found[2]]


# Commands


def _list(options: argparse.Namespace, disk: Disk) -> int:
    jobs = [
        job
        for job in Catalog(disk).jobs()
        if options.state in (None, job.state) and options.handler in (None, job.handler)
    ]
    jobs.sort(key=lambda job: job.record.created_at)
    if options.json:
        _write_json([_as_json(job) for job in jobs])
    else:
        _write_table(
            ("id", "state", "handler", "created", "delayed until", "attempts", "files"),
            (
                (
                    job.id[:_SHORT],
                    job.state.value,
                    job.handler,
                    _time(job.record.created_at),
                    _time(job.standing.due) if job.state is JobState.DELAYED else "-",
                    str(job.attempt),
                    ", ".join(map(_filename, job.filenames)),
                )
                for job in jobs
            ),
        )
    return 0


def _show(options: argparse.Namespace, disk: Disk) -> int:
    job = _find(Catalog(disk), options.id)
    if options.json:
        _write_json(_as_json(job))
        return 0
    for name, value in _as_json(job).items():
        if name == "files":
            for file in value:
                _write(f"file:       {_filename(file['filename'])}, {file['size']} bytes")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            _write(f"{name + ':':<11} {printable(text)}")
    return 0


def _retry(options: argparse.Namespace, disk: Disk) -> int:
    catalog = Catalog(disk)

    def retry(job: KeptJob) -> str:
        if not catalog.retry(job.id):
            raise _Refused(
                f"{job.id} is {job.state.value}: only a job that has failed runs once more."
            )
        return f"{job.id} waits, and runs as soon as an app takes it."

    return _for_each(options.id, catalog, retry)


def _cancel(options: argparse.Namespace, disk: Disk) -> int:
    catalog = Catalog(disk)

    def cancel(job: KeptJob) -> str:
        if not catalog.cancel(job.id):
            raise _Refused(
                f"{job.id} is {job.state.value}, or an app has it: only a job that waits in the "
                "spool is cancelled."
            )
        return f"{job.id} is cancelled."

    return _for_each(options.id, catalog, cancel)


def _for_each(prefixes: Sequence[str], catalog: Catalog, call: Callable[[KeptJob], str]) -> int:
    """Do something with each of several jobs, and say what came of it; 1 if one was refused."""
    code = 0
    for prefix in prefixes:
        try:
            _write(call(_find(catalog, prefix)))
        except _Refused as error:  # noqa: PERF203 - the others are done all the same
            _write_error(error)
            code = 1
    return code


def _purge(options: argparse.Namespace, disk: Disk) -> int:
    if options.state is None and options.before is None and not options.all:
        raise _Refused("Say which jobs to forget: --state STATE, --before AGE, or --all.")
    state = None if options.state is None else JobState(options.state)
    before = None if options.before is None else time.time() - options.before
    purged = Catalog(disk).purge(state=state, before=before)
    empty_trash(disk, Obstacles(disk.root))
    _write(f"{_counted(purged)} forgotten.")
    return 0


def _check(options: argparse.Namespace, disk: Disk) -> int:
    jobs, problems = check(disk)
    if options.json:
        found = [{"path": _plain(path), "problem": what} for path, what in problems]
        _write_json({"ok": not found, "jobs": jobs, "problems": found})
    else:
        for path, what in problems:
            _write(f"{printable(path)}: {printable(what)}")
        _write(f"{_counted(jobs)}, {len(problems) or 'nothing'} wrong.")
    return 1 if problems else 0


def _find(catalog: Catalog, prefix: str) -> KeptJob:
    if not prefix:
        raise _Refused("An id is empty. Give one, or the beginning of one that the list shows.")
    ids = {place.entry.id for place in catalog.places() if place.entry.id.startswith(prefix)}
    if len(ids) > 1:
        some = ", ".join(sorted(ids)[:3]) + (", ..." if len(ids) > 3 else "")
        raise _Refused(f"{prefix} begins {len(ids)} ids: {some}. Give more of it.")
    found = catalog.find(ids.pop()) if ids else None
    if found is None:
        raise _Refused(
            f"No job that can be read has an id that begins with {prefix}. The command "
            "list shows all there are; those that are done are forgotten after a while."
        )
    return found


# What is written


def _filename(name: str | None) -> str:
    return "-" if name is None else printable(name)


def _plain(path: str) -> str:
    """Return a path as text that any reader of JSON takes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _counted(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def _as_json(job: KeptJob) -> dict[str, Any]:
    record, standing, ending = job.record, job.standing, job.ending
    return {
        "id": record.id,
        "state": job.state.value,
        "handler": record.handler,
        "parent_id": record.parent_id,
        "created": _time(record.created_at),
        "due": _time(standing.due) if ending is None else None,
        "done": None if ending is None else _time(ending.at),
        "attempts": standing.attempts,
        "failures": standing.failures,
        "crashes": standing.crashes,
        "files": [
            {"filename": file.filename, "field": file.field_name, "size": file.size}
            for file in record.files
        ],
        "arguments": None if record.arguments is None else json.loads(record.arguments),
        "result": None if ending is None else ending.result,
        "error": None if ending is None else ending.error,
    }


def _write_json(value: object) -> None:
    _write(json.dumps(value, indent=2))  # escapes all but what ASCII can print


def _write_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = [titles, *([printable(cell) for cell in row[:-1]] + [row[-1]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        _write("  ".join(cells).rstrip())


def _write(line: str) -> None:
    _write_to(sys.stdout, line)


def _write_error(error: Exception) -> None:
    _write_to(sys.stderr, f"error: {printable(str(error))}")


def _write_to(stream: TextIO, line: str) -> None:
    # Not every terminal knows every letter.
    encoded = line.encode(stream.encoding, "backslashreplace")
    stream.write(encoded.decode(stream.encoding) + "\n")


_COMMANDS: dict[str, Callable[[argparse.Namespace, Disk], int]] = {
    "list": _list,
    "show": _show,
    "retry": _retry,
    "cancel": _cancel,
    "purge": _purge,
    "check": _check,
}
