"""A process of its own that is asked over a pipe, one question after the other.

So a contender may have an environment of its own, and still take turns with the
others. Questions and answers are lines of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .measure import WrongResult

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).parents[1]


class Worker:
    """Such a process, from its beginning to the end of the block.

    Args:
        arguments: What Python is to run: ``"-m", "benchmarks.client"``.
        python: The interpreter, and so the environment; this one by default.
        env: The variables of its environment, if not ours.
    """

    def __init__(
        self, *arguments: str, python: str = sys.executable, env: Mapping[str, str] | None = None
    ) -> None:
        self._name = " ".join(arguments)
        self._process = subprocess.Popen(
            [python, *arguments],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question: object) -> Any:
        """Ask, and wait for the answer.

        Raises:
            WrongResult: It failed.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise TypeError("The process has no pipes.")
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise WrongResult(f"{self._name} ended with {self._process.wait()}.")
        reply = json.loads(line)
        if "error" in reply:
            raise WrongResult(f"{self._name}: {reply['error']}")
        return reply["answer"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The end of its input is the end of the worker.
        self._process.communicate()


def serve(answer: Callable[..., object]) -> None:
    """Answer questions until there are no more: the worker's side."""
    for line in sys.stdin:
        try:
            reply = {"answer": answer(**json.loads(line))}
        except Exception:  # noqa: BLE001 - whoever asked is told
            reply = {"error": traceback.format_exc()}
        print(json.dumps(reply), flush=True)
