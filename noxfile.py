"""Every check beyond `make test`, each in an environment of its own."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
# Of pyenv's Pythons, only the active one is on the path; the oldest may be another.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ["PATH"] += "".join(f"{os.pathsep}{path}" for path in PYENV.glob("versions/3.10.*/bin"))

PACKAGE = "starlette_upload_keepalive"
# The least that pyproject.toml allows.
FLOORS = [
    requirement.partition(";")[0].replace(">=", "==") + ".*"
    for requirement in nox.project.load_toml("pyproject.toml")["project"]["dependencies"]
]


@nox.session(allow_parallel=True)
def style(session: nox.Session) -> None:
    """Check format and lint."""
    session.install("--group", "lint")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")


@nox.session(allow_parallel=True)
def types(session: nox.Session) -> None:
    """Check all types, twice."""
    session.install("--editable", ".", "--group", "dev")
    session.run("mypy")
    session.run("pyright")


@nox.session(allow_parallel=True)
def coverage(session: nox.Session) -> None:
    """Run the tests on the newest versions: they are to see each line and branch."""
    session.install("--editable", ".", "--group", "coverage")
    session.run("coverage", "erase")
    session.run("coverage", "run", "--module", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(allow_parallel=True)
@nox.parametrize(
    "requirements",
    [
        nox.param(FLOORS, id="floors"),
        nox.param(["fastapi==0.109.*"], id="fastapi-0.109"),
        nox.param(["fastapi==0.115.*"], id="fastapi-0.115"),
        nox.param(["fastapi==0.117.1"], id="fastapi-0.117"),
        nox.param(["fastapi==0.118.*"], id="fastapi-0.118"),
        nox.param(["starlette==0.46.*"], id="starlette-0.46"),
        nox.param(["starlette==1.5.*"], id="starlette-1.5"),
        nox.param(["starlette==1.6.*"], id="starlette-1.6"),
    ],
)
def older(session: nox.Session, requirements: list[str]) -> None:
    """Run the tests on older versions of what the package stands on."""
    session.install("--editable", ".", "--group", "test", *requirements)
    run_tests(session)


@nox.session(python="3.10", allow_parallel=True)
def oldest_python(session: nox.Session) -> None:
    """Run the tests on the oldest Python, with the newest versions that it can have."""
    session.install("--editable", ".", "--group", "test")
    run_tests(session)


@nox.session(allow_parallel=True)
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it alone, and run the tests where no source is."""
    here = Path(session.create_tmp())
    shutil.rmtree(here)
    here.mkdir()
    session.run("uv", "build", "--quiet", "--out-dir", str(here / "dist"))
    (built,) = (here / "dist").glob("*.whl")
    if f"{PACKAGE}/py.typed" not in zipfile.ZipFile(built).namelist():
        session.error("The wheel has no py.typed.")
    session.install(str(built))
    session.run("python", "-I", "-c", f"import {PACKAGE}")

    for name in ["tests", "examples", "benchmarks", "docs"]:
        shutil.copytree(name, here / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ["pyproject.toml", "README.md", "CHANGELOG.md"]:
        shutil.copy(name, here)
    session.install("--group", "test")
    session.chdir(here)
    run_tests(session)


def run_tests(session: nox.Session) -> None:
    """Run the tests; some don't apply to every version, and may be skipped here."""
    session.run("pytest", *session.posargs, env={"REQUIRE_ALL_TESTS": None})
