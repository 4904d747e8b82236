"""Serve the gallery on a free port of this machine, and say where."""

import shlex
import signal
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn

from examples.gallery.app import app

FOLDER = Path(__file__).resolve().parent


def curl_lines(address: str) -> list[str]:
    """What to type into another shell to do what the page does."""
    files = [FOLDER / "page" / "icon.png", FOLDER / "app.py"]
    return [
        shlex.join(["curl", *(f"-Ffiles=@{file}" for file in files), f"{address}/uploads"]),
        shlex.join(["curl", f"{address}/jobs"]),
    ]


def main() -> None:
    """Run until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Bound here and handed over, so that nobody can take the port in between.
    with suppress(KeyboardInterrupt), socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        print(
            address,
            "",
            "The same from a shell:",
            *curl_lines(address),
            "",
            "Ctrl-C ends it.",
            sep="\n",
            flush=True,
        )
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)).run(
            sockets=[listener]
        )


if __name__ == "__main__":
    main()
