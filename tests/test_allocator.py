"""What a large upload frees is there for the next message, without asking the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
from starlette_upload_keepalive import UploadKeepAliveMiddleware

async def app(scope, receive, send): ...

if {kept}:
    UploadKeepAliveMiddleware(app)

def take_and_free():
    messages = [bytearray(1024 * 1024) for _ in range(4)]

take_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    take_and_free()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, kept: bool) -> int:
    """Return how many pages had to be asked for, in a process of its own."""
    script = SCRIPT.format(kept=kept)
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other ways")
def test_memory_is_kept_for_the_next_message() -> None:
    pages = 20 * 4 * 1024 * 1024 // 4096
    assert faults(kept=False) > pages // 4
    assert faults(kept=True) < pages // 10
