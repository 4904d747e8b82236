"""Where the figures come from: the machine, what runs on it, and the versions."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path

import starlette_upload_keepalive

from .worker import ROOT

LIBRARIES = ("starlette", "fastapi", "python-multipart", "anyio", "aiofiles")
SERVERS = ("uvicorn", "h11", "httptools", "uvloop", "hypercorn", "granian")
PEERS = ("litestar", "baize", "django", "multipart", "streaming-form-data")


def describe() -> Iterator[str]:
    """Go over the lines that tell where the figures come from."""
    yield f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    yield f"Temporary files: {tempfile.gettempdir()} on {_filesystem(tempfile.gettempdir())}"
    yield f"{platform.python_implementation()} {platform.python_version()}"
    ours = f"starlette-upload-keepalive {starlette_upload_keepalive.__version__}"
    yield ", ".join([ours, *_versions(LIBRARIES, sys.path)])
    beside = [str(path) for path in ROOT.glob(".venv/peers/lib/python*/site-packages")]
    for others in (_versions(SERVERS, sys.path), _versions(PEERS, beside)):
        if others:
            yield ", ".join(others)


def load() -> str:
    """Tell how many processes wanted a core during the last minute."""
    return f"Load: {os.getloadavg()[0]:.1f}"


def _versions(libraries: Sequence[str], path: Sequence[str]) -> list[str]:
    """Return those that are installed there, in that order."""
    installed = {
        str(found.name).lower().replace("_", "-"): found.version
        for found in distributions(path=list(path))
    }
    return [f"{name} {installed[name]}" for name in libraries if name in installed]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem(directory: str) -> str:
    """Return the type of the filesystem whose mount point is nearest above."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "an unknown filesystem"
    fields = [line.split() for line in mounts.read_text().splitlines()]
    above = {point: kind for _, point, kind, *_ in fields if Path(directory).is_relative_to(point)}
    return above[max(above, key=len)]
