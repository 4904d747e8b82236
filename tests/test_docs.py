"""What README and docs show does what they say."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/**/*.md")))]


def run(page: str) -> SimpleNamespace:
    """Run all Python of a page from top to bottom. Gives what it has defined."""
    document = Sybil([PythonCodeBlockParser()]).parse(ROOT / page)
    for example in document.examples():
        example.evaluate()
    return SimpleNamespace(**document.namespace)


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str) -> None:
    run(page)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
    assert [link for link in linked if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.anyio
async def test_readme() -> None:
    main = run("README.md")

    async with main.uploads.running(), client_of(main.app) as client:
        response = await client.post("/files", files={"file": b"some bytes"})
        assert response.status_code == 202
        job = main.uploads.jobs.get(response.json()["job"])
        await job.wait()
        shown = await client.get(f"/jobs/{job.id}")
        missing = await client.get("/jobs/none")

    assert shown.json() == {
        "state": "succeeded",
        "result": hashlib.sha256(b"some bytes").hexdigest(),
        "error": None,
    }
    assert missing.status_code == 404


@pytest.mark.anyio
async def test_lifetimes() -> None:
    page = run("docs/lifetimes.md")

    async with page.uploads.running(), client_of(page.app) as client:
        for name, kind in [("a.jpg", "image/jpeg"), ("a.txt", "text/plain")]:
            photo = {"photo": (name, b"photo", kind)}
            assert (await client.post("/photos", files=photo)).status_code == 202
        submitted = await client.post("/videos", files={"video": ("a.mp4", b"video")})
        shown = await client.get(f"/jobs/{submitted.json()}")
        for job in page.uploads.jobs:
            await job.wait()
        await client.post("/measured", files={"file": b"file"})

    assert page.lengths.get(timeout=10) == len(b"file")
    assert shown.json() in {"waiting", "running", "succeeded"}
    assert [(job.handler, job.filenames, job.result) for job in page.uploads.jobs] == [
        ("index", ["a.jpg"], len(b"photo")),
        ("transcode", ["a.mp4"], "a.mp4 of user 7"),
    ]
