"""The example app as a visitor meets it: started like `make demo`, used from shell and browser."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import ExifTags, Image

ROOT = Path(__file__).parent.parent
PATIENCE = 60  # seconds; only a failing test waits that long
Browser = Any  # Selenium's own types are but partial.
NASTY_NAME = "<img src=x onerror=alert(1)>.png"


@dataclass
class Demo:
    """A running demo and what it has printed."""

    process: subprocess.Popen[str]
    lines: list[str]

    @property
    def address(self) -> str:
        return self.lines[0]

    @property
    def curl_lines(self) -> list[str]:
        return [line for line in self.lines if line.startswith("curl ")]


@contextmanager
def running_demo(directory: Path) -> Generator[Demo]:
    """Start the demo with its temporary files in `directory`; at the end it is gone for sure."""
    with subprocess.Popen(
        [sys.executable, "-m", "examples.gallery"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            assert process.stdout
            assert process.stderr
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line.rstrip())
                if line.startswith("Ctrl-C"):
                    break
            else:
                pytest.fail(process.stderr.read())
            yield Demo(process, lines)
        finally:
            watchdog.cancel()
            watchdog.join()
            process.kill()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running_demo(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture
def client(demo: Demo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.address, timeout=PATIENCE) as client:
        yield client


def picture(width: int, height: int, kind: str) -> bytes:
    Image.new("RGB", (width, height), "teal").save(data := io.BytesIO(), kind)
    return data.getvalue()


def upload(client: httpx.Client, *files: tuple[str, bytes, str]) -> list[Any]:
    """Send files in one form. Gives each one's finished jobs by handler."""
    response = client.post("/uploads", files=[("files", file) for file in files])
    assert response.status_code == 202
    receipts = response.json()
    assert [receipt["filename"] for receipt in receipts] == [file[0] for file in files]
    return [
        {job["handler"]: wait_for_job(client, job["id"]) for job in receipt["jobs"]}
        for receipt in receipts
    ]


def wait_for_job(client: httpx.Client, job_id: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        (job,) = client.get("/jobs", params={"id": job_id}).json()
        if job["done"]:
            return job
        assert time.monotonic() < deadline, job


def test_the_address_is_printed_first_and_as_one_line(demo: Demo) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", demo.address)
    assert httpx.get(demo.address).headers["content-type"].startswith("text/html")


def test_printed_curl_lines_work(demo: Demo, client: httpx.Client) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")

    def run(line: str) -> Any:
        command = [*shlex.split(line), "--silent", "--show-error", "--fail"]
        return json.loads(subprocess.check_output(command, timeout=PATIENCE))

    send, read = demo.curl_lines
    receipts = run(send)
    sent = [job["id"] for receipt in receipts for job in receipt["jobs"]]
    assert len(receipts) == 2
    assert len(sent) == 3  # a thumbnail and two checksums
    assert [wait_for_job(client, job_id)["state"] for job_id in sent] == ["succeeded"] * 3
    assert sent == [job["id"] for job in run(read) if job["id"] in sent]


def test_upload_is_answered_before_any_work(client: httpx.Client) -> None:
    response = client.post("/uploads", files={"files": ("a.png", picture(300, 200, "PNG"))})
    assert response.status_code == 202
    (receipt,) = response.json()
    assert [job["state"] for job in receipt["jobs"]] == ["staged", "staged"]


@pytest.mark.parametrize("size", [0, 10, 50_000_000])
def test_any_file_gets_its_checksum_and_size(client: httpx.Client, size: int) -> None:
    data = os.urandom(size)
    (jobs,) = upload(client, ("some.bin", data, "application/octet-stream"))
    assert jobs.keys() == {"checksum"}
    assert jobs["checksum"]["state"] == "succeeded"
    assert jobs["checksum"]["result"] == {"sha256": hashlib.sha256(data).hexdigest(), "size": size}
    assert jobs["checksum"]["progress"] == ({"fraction": 1.0, "message": ""} if size else None)


@pytest.mark.parametrize(
    ("name", "kind", "size", "small"),
    [("a.jpg", "JPEG", (1600, 900), (256, 144)), (NASTY_NAME, "PNG", (20, 30), (20, 30))],
)
def test_image_gets_a_thumbnail(
    client: httpx.Client, name: str, kind: str, size: tuple[int, int], small: tuple[int, int]
) -> None:
    (jobs,) = upload(client, (name, picture(*size, kind), f"image/{kind.lower()}"))
    assert jobs.keys() == {"checksum", "thumbnail"}
    result = jobs["thumbnail"]["result"]
    assert (result["width"], result["height"]) == size

    response = client.get(result["thumbnail"])
    assert response.headers["content-type"] == "image/webp"
    assert response.headers["x-content-type-options"] == "nosniff"
    image = Image.open(io.BytesIO(response.content))
    assert (image.format, image.size) == ("WEBP", small)


def test_thumbnail_is_upright(client: httpx.Client) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # turned by 90 degrees
    Image.new("RGB", (600, 300)).save(data := io.BytesIO(), "JPEG", exif=exif)
    (jobs,) = upload(client, ("turned.jpg", data.getvalue(), "image/jpeg"))
    result = jobs["thumbnail"]["result"]
    assert (result["width"], result["height"]) == (300, 600)
    assert Image.open(io.BytesIO(client.get(result["thumbnail"]).content)).size == (128, 256)


def test_broken_image_fails_alone(client: httpx.Client) -> None:
    good = ("good.png", picture(300, 200, "PNG"), "image/png")
    text = ("text.png", b"not a picture", "image/png")
    cut = ("cut.jpg", picture(300, 200, "JPEG")[:-500], "image/jpeg")
    jobs = upload(client, text, cut, good)
    states = [(each["checksum"]["state"], each["thumbnail"]["state"]) for each in jobs]
    assert states == [("succeeded", "failed"), ("succeeded", "failed"), ("succeeded", "succeeded")]
    assert jobs[0]["thumbnail"]["error"] == "ValueError: not an image that Pillow can read"
    assert "truncated" in jobs[1]["thumbnail"]["error"]

    (after,) = upload(client, good)
    assert after["thumbnail"]["state"] == "succeeded"


def test_only_thumbnails_are_served(client: httpx.Client) -> None:
    data = picture(30, 20, "PNG")
    broken, fine = upload(client, ("x.png", data[:50], "image/png"), ("y.png", data, "image/png"))
    served = fine["thumbnail"]["result"]["thumbnail"]
    assert client.get(served).status_code == 200
    others = [
        broken["thumbnail"]["id"],
        fine["checksum"]["id"],
        "0" * 32,
        "..%2F..%2Fapp.py",
        f"..%2F{fine['thumbnail']['id']}",
    ]
    assert {client.get(f"/thumbnails/{other}").status_code for other in others} == {404}
    assert client.get("/jobs", params={"id": "0" * 32}).json() == []


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_it_finishes_its_work_and_ends_cleanly(tmp_path: Path, by: signal.Signals) -> None:
    with (
        running_demo(tmp_path) as demo,
        httpx.Client(base_url=demo.address, timeout=PATIENCE) as client,
    ):
        large = ("files", ("a.png", picture(3000, 2000, "PNG"), "image/png"))
        assert client.post("/uploads", files=[large] * 9).status_code == 202
        assert list(tmp_path.iterdir())  # where the thumbnails go
        demo.process.send_signal(by)
        _, errors = demo.process.communicate(timeout=PATIENCE)
    # A job that was lost, or came too late to save its thumbnail, would have been logged.
    assert (demo.process.returncode, errors) == (0, "")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def browser() -> Iterator[Browser]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in [
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
    ]:
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Chromium makes a socket in there, whose path the kernel limits to 107 bytes (unix(7)).
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        options.add_argument(f"--user-data-dir={short}/profile")
        service = webdriver.ChromeService(driver, env=os.environ | {"TMPDIR": short})
        with webdriver.Chrome(options, service) as browser:
            yield browser


def see(browser: Browser, expression: str) -> None:
    """Wait until something is true of the page."""
    deadline = time.monotonic() + PATIENCE
    while not browser.execute_script(f"return {expression}"):
        assert time.monotonic() < deadline, expression


def test_page_in_a_browser(browser: Browser, demo: Demo, tmp_path: Path) -> None:
    files = {
        "a.jpg": picture(1600, 900, "JPEG"),
        NASTY_NAME: picture(200, 300, "PNG"),
        "text.png": b"not a picture",
        "empty.txt": b"",
        "large.bin": os.urandom(4_000_000),
    }
    paths = [str(tmp_path / name) for name in files]
    for path in paths:
        Path(path).write_bytes(files[Path(path).name])
    browser.get(demo.address)

    # Chosen, and sent slowly enough to watch it go.
    throttle(browser, bytes_per_second=4_000_000)
    browser.find_element("id", "files").send_keys("\n".join(paths))
    see(browser, "(({ value }) => 0 < value && value < 1)(document.querySelector('progress'))")
    see(browser, "/^Uploading, [1-9][0-9]? %$/.test(document.querySelector('.story').textContent)")
    throttle(browser, bytes_per_second=-1)

    # Answered, and worked on.
    see(browser, "document.querySelector('.batch.done')")
    story = r"Answered in [\d.]+ m?s, all work done <?[\d.]+ m?s later, 1 job failed"
    assert re.fullmatch(story, browser.find_element("class name", "story").text)
    assert re.fullmatch(story, browser.find_element("id", "news").text)
    shown = newest_batch(browser)
    assert shown.keys() == files.keys()
    for name, data in files.items():
        state, text = shown[name]["jobs"]["checksum"]
        assert state == "succeeded"
        assert hashlib.sha256(data).hexdigest() in text
        assert f"{len(data):,} byte" in text
    assert {name: file["width"] for name, file in shown.items() if "thumbnail" in file["jobs"]} == {
        "a.jpg": 256,
        NASTY_NAME: 171,
        "text.png": None,
    }
    state, text = shown["text.png"]["jobs"]["thumbnail"]
    assert state == "failed"
    assert "not an image that Pillow can read" in text

    # Dropped anywhere on the window; a folder is left out.
    dragged = {"items": [], "files": [paths[0], str(tmp_path)], "dragOperationsMask": 1}
    for step in ["dragEnter", "dragOver", "drop"]:
        event = {"type": step, "x": 10, "y": 10, "data": dragged}
        browser.execute_cdp_cmd("Input.dispatchDragEvent", event)
    see(browser, "document.querySelectorAll('.batch.done').length === 2")
    assert {name: file["width"] for name, file in newest_batch(browser).items()} == {"a.jpg": 256}
    assert browser.find_element("id", "no-folders").is_displayed()

    assert browser.get_log("browser") == []


def throttle(browser: Browser, bytes_per_second: int) -> None:
    """Make uploads as slow as this; -1 for no limit."""
    browser.set_network_conditions(
        latency=0, download_throughput=-1, upload_throughput=bytes_per_second
    )


def newest_batch(browser: Browser) -> dict[str, Any]:
    """What the page shows of the last upload: each file's jobs, and how wide its picture is."""
    see(browser, "[...document.images].every((image) => image.complete)")
    shown: dict[str, Any] = browser.execute_script(
        """
        const files = {};
        for (const file of document.querySelector(".batch").querySelectorAll(".file")) {
            const jobs = {};
            for (const job of file.querySelectorAll(".job"))
                jobs[job.querySelector(".handler").textContent] =
                    [job.classList[1], job.querySelector(".outcome").innerText];
            const width = file.querySelector("img")?.naturalWidth ?? null;
            files[file.querySelector(".name").textContent] = { jobs, width };
        }
        return files;
        """
    )
    return shown
