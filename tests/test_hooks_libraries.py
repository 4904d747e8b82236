"""A hook whose library is missing says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("extra", "module"),
    [
        ("structlog", "structlog"),
        ("opentelemetry", "opentelemetry"),
        ("prometheus", "prometheus_client"),
    ],
)
def test_missing_library_is_named(extra: str, module: str) -> None:
    script = f"""
import sys

sys.modules[{module!r}] = None  # as if it were not installed
import starlette_upload_keepalive.hooks
import starlette_upload_keepalive.hooks.{extra}
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: This hook needs ")
    assert last.endswith(f": pip install 'starlette-upload-keepalive[{extra}]'")
