"""What a request pays that brings no form: the middleware around an app, and no middleware."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_upload_keepalive import UploadKeepAliveMiddleware

from .forms import BROWSER_HEADERS, ignore, scope_of
from .measure import MICROSECONDS, NANOSECONDS, Bench, Contender, WrongResult

JSON_HEADERS = [*BROWSER_HEADERS, (b"content-type", b"application/json"), (b"content-length", b"2")]


async def run(bench: Bench) -> None:
    """Call a trivial ASGI app, then a FastAPI endpoint, with and without the middleware."""
    requests = {
        "A GET of curl (3 headers)": scope_of("GET", BROWSER_HEADERS[:3]),
        f"A GET of a browser ({len(BROWSER_HEADERS)} headers)": scope_of("GET", BROWSER_HEADERS),
        f"A POST of JSON ({len(JSON_HEADERS)} headers)": scope_of("POST", JSON_HEADERS),
    }
    for title, scope in requests.items():
        await bench.race(
            f"{title} to a trivial ASGI app",
            NANOSECONDS,
            [
                _contender("no middleware", answer, scope),
                _contender("a middleware that does nothing", PassThrough(answer), scope),
                _contender("this package", UploadKeepAliveMiddleware(answer), scope),
            ],
            repeat=bench.pick(50_000, quick=10),
        )
    await bench.race(
        f"A GET of a browser ({len(BROWSER_HEADERS)} headers) to a FastAPI endpoint",
        MICROSECONDS,
        [
            _contender("no middleware", _fastapi(), scope_of("GET", BROWSER_HEADERS)),
            _contender(
                "this package",
                UploadKeepAliveMiddleware(_fastapi()),
                scope_of("GET", BROWSER_HEADERS),
            ),
        ],
        repeat=bench.pick(2_000, quick=10),
    )


class PassThrough:
    """What any middleware costs at least: one more call."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app."""
        await self.app(scope, receive, send)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request at the least cost."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def _fastapi() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {}

    return app


def _contender(name: str, app: ASGIApp, scope: Scope) -> Contender:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def run() -> None:
        # An app may write into its scope, so each request has its own.
        await app(dict(scope), receive, ignore)

    async def check() -> None:
        sent: asyncio.Queue[Message] = asyncio.Queue()
        await app(dict(scope), receive, sent.put)
        if sent.get_nowait()["status"] != 200 or sent.get_nowait()["body"] != b"{}":
            raise WrongResult(f"{name}: the app did not answer.")

    return Contender(name, run, check)
