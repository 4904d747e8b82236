"""Every check beyond `make test`, each in an environment of its own."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False

PACKAGE = "starlette_upload_keepalive"
PROJECT = nox.project.load_toml("pyproject.toml")["project"]

# The least that pyproject.toml allows; Starlette among it.
FLOORS = [f"{floor.replace('>=', '==')}.*" for floor in PROJECT["dependencies"]]
VERSIONS = [
    nox.param(FLOORS, id="floors"),
    *(
        nox.param([version], id=version)
        for version in [
            "fastapi==0.109.*",
            "fastapi==0.115.*",
            "fastapi==0.117.1",
            "fastapi==0.118.*",
            "starlette==0.46.*",
            "starlette==1.5.*",
            "starlette==1.6.*",
        ]
    ),
]


@nox.session(allow_parallel=True)
def coverage(session: nox.Session) -> None:
    """Run the tests on the newest versions: each line and branch is to be seen."""
    session.install("--editable", ".", "--group", "coverage")
    session.env["COVERAGE_FILE"] = str(Path(session.create_tmp(), "coverage"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet", success_codes=[0, 1])
    session.run("coverage", "report")


@nox.session(allow_parallel=True)
def types(session: nox.Session) -> None:
    """Check all types, twice."""
    session.install("--editable", ".", "--group", "dev")
    session.run("mypy")
    session.run("pyright")


@nox.session(allow_parallel=True)
def style(session: nox.Session) -> None:
    """Check format and lint."""
    session.install("--group", "lint")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")


@nox.session(allow_parallel=True)
@nox.parametrize("versions", VERSIONS)
def versions(session: nox.Session, versions: list[str]) -> None:
    """Run the tests on older versions of what the package stands on."""
    session.install("--editable", ".", "--group", "test", *versions)
    session.run("pytest", *session.posargs)


@nox.session(python="3.10", allow_parallel=True)
def python(session: nox.Session) -> None:
    """Run the tests on the oldest Python."""
    session.install("--editable", ".", "--group", "test")
    session.run("pytest", *session.posargs)


@nox.session(allow_parallel=True)
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it alone, and run the tests on it where no source is."""
    here = Path(session.create_tmp())
    shutil.rmtree(here)
    here.mkdir()
    session.run("uv", "build", "--quiet", "--out-dir", str(here / "dist"))
    (built,) = (here / "dist").glob("*.whl")
    if f"{PACKAGE}/py.typed" not in zipfile.ZipFile(built).namelist():
        session.error("The wheel has no py.typed.")
    session.install(str(built))
    session.run("python", "-I", "-c", f"import {PACKAGE}")

    for name in ["tests", "examples", "docs"]:
        shutil.copytree(name, here / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ["pyproject.toml", "README.md", "CHANGELOG.md"]:
        shutil.copy(name, here)
    session.install("--group", "test")
    session.chdir(here)
    session.run("pytest", *session.posargs)
