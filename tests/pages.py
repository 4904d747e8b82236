"""Runs the Python in README and docs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
from sybil import Sybil
from sybil.document import Document
from sybil.example import Example
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "SECURITY.md",
    *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/**/*.md"))),
]
# Each of their examples is a program by itself, or one file of it.
APART = {"docs/migrating.md", "docs/processes.md"}


def run(page: str) -> SimpleNamespace:
    """Run all examples of a page as one program, from top to bottom. Gives what it has defined."""
    document = _parse(page)
    for example in document.examples():
        example.evaluate()
    return SimpleNamespace(**document.namespace)


def examples_of(page: str) -> list[Example]:
    """Find the examples of a page, not run yet."""
    return list(_parse(page).examples())


def sections(page: str) -> dict[str, list[Example]]:
    """Find the examples of each section of a page, not run yet."""
    document = _parse(page)
    found: dict[str, list[Example]] = {}
    for example in document.examples():
        above = document.text[: example.region.start]
        title = re.findall(r"^## (.*)$", above, re.MULTILINE)[-1]
        found.setdefault(title, []).append(example)
    return found


def run_alone(example: Example, name: str = "example") -> Any:
    """Run one example as a module of that name, which can be imported for as long as it is kept."""
    module = ModuleType(name)
    sys.modules[name] = module
    example.namespace = vars(module)
    example.evaluate()
    return module


def client_of(app: Any) -> httpx.AsyncClient:
    """Make a client that calls an app directly, without its lifespan."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def send(client: httpx.AsyncClient, path: str, **files: Any) -> httpx.Response:
    """Send files, and give the answer to them."""
    return await client.post(path, files=files)


def python_path() -> str:
    """The PYTHONPATH with which another process finds what this one does."""
    return os.pathsep.join(filter(None, sys.path))


def _parse(page: str) -> Document:
    return Sybil([PythonCodeBlockParser()]).parse(ROOT / page)
