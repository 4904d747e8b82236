"""What README and docs show does what they say."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.pages import APART, PAGES, ROOT, client_of, run, send

# A file of tests: pytest runs it.
TESTS = "docs/testing.md"
EACH_PAGE = pytest.mark.parametrize("page", PAGES)


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each page where a reader would, in a directory of their own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in APART | {TESTS}])
def test_examples_run(page: str) -> None:
    run(page)


@EACH_PAGE
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        target = (ROOT / page).parent / link if link else ROOT / page
        assert target.is_file(), link
        assert not anchor or anchor in anchors_of(target), f"{link}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """What links lead to: headings, as Markdown tools derive it, and the names in a reference."""
    text = page.read_text()
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    headings = {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles
    }
    return headings | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


@EACH_PAGE
def test_lines_are_no_longer_than_code(page: str) -> None:
    lines = (ROOT / page).read_text().splitlines()
    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []


@pytest.mark.anyio
async def test_readme() -> None:
    main = run("README.md")

    async with main.uploads.running(), client_of(main.app) as client:
        response = await send(client, "/files", file=b"some bytes")
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
async def test_concepts() -> None:
    page = run("docs/concepts.md")

    async with page.uploads.running(), client_of(page.app) as client:
        await send(client, "/measured", file=b"file")

    assert page.lengths.get(timeout=10) == len(b"file")


def run_with_its_test(page: str) -> Any:
    """Run a page, and the test of the lines that it counts, in an event loop of its own."""
    program = run(page)
    anyio.run(program.test_lines_are_counted)
    return program


@pytest.fixture
def fastapi_tutorial(own_directory: None) -> Any:
    return run_with_its_test("docs/tutorial-fastapi.md")


@pytest.mark.anyio
async def test_tutorial_for_fastapi(fastapi_tutorial: Any) -> None:
    main = fastapi_tutorial

    async with main.uploads.running(), client_of(main.app) as client:
        refused = await send(client, "/texts", text=("a.png", b"text", "image/png"))
        cover = await send(client, "/covers", cover=("a.png", b"cover"))
        kept = await send(client, "/archive", text=("../a.txt", b"text"))
        for job in main.uploads.jobs:
            await job.wait()
        shown = [(await client.get(f"/jobs/{job.id}")).json() for job in main.uploads.jobs]
        missing = await client.get("/jobs/none")

    job_id = kept.json()["job"]
    assert refused.status_code == 415
    assert cover.json() == "Thank you for 5 bytes."
    assert [(job["state"], job["progress"], job["result"]) for job in shown] == [
        ("succeeded", 1, {"lines": 2, "bytes": 8}),
        ("succeeded", None, hashlib.sha256(b"cover").hexdigest()),
        ("succeeded", None, f"{job_id}.txt"),
    ]
    assert (main.ARCHIVE / f"{job_id}.txt").read_bytes() == b"text"
    assert missing.status_code == 404


@pytest.fixture
def starlette_tutorial(own_directory: None) -> Any:
    return run_with_its_test("docs/tutorial-starlette.md")


@pytest.mark.anyio
async def test_tutorial_for_starlette(starlette_tutorial: Any) -> None:
    main = starlette_tutorial

    async with main.uploads.running(), client_of(main.app) as client:
        no_file = await client.post("/texts", files={"text": (None, "text")})
        blank = await client.get("/page")
        sent = await send(client, "/page", text=("a.txt", b"text"))
        for job in main.uploads.jobs:
            await job.wait()
        shown = [(await client.get(f"/jobs/{job.id}")).json() for job in main.uploads.jobs]
        missing = await client.get("/jobs/none")

    assert no_file.status_code == 422
    assert "multipart/form-data" in blank.text
    assert (sent.status_code, sent.headers["location"]) == (303, "/page")
    assert main.titles == ["a.txt"]
    assert [job["result"] for job in shown] == [2, None]
    assert missing.status_code == 404
