"""What docs/limits.md shows is what happens."""

from __future__ import annotations

import pytest

from tests.pages import ROOT, run

PAGE = "docs/limits.md"

pytestmark = pytest.mark.anyio


# httpx leaves the rest of a body, for which there was an answer already, to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore:.*MultipartStream.__aiter__:pytest.PytestUnraisableExceptionWarning"
)
async def test_the_refusals_of_the_page() -> None:
    page = run(PAGE)

    answers = await page.refusals()

    assert [answer.status_code for answer in answers] == [415, 413, 413]
    told = " ".join((ROOT / PAGE).read_text().split())
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert f'"{answer.json()["title"]}"' in told
