"""Every check beyond `make test`, each in an environment of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"

PACKAGE = "starlette_upload_keepalive"
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"

# Where everything is required, a Python that is missing is fetched if it can be; else it is left
# out, and nox says so.
nox.options.download_python = "auto" if os.environ.get("REQUIRE_ALL_TESTS") else "never"
nox.options.error_on_missing_interpreters = False

# Of pyenv's Pythons, only the active one is on the path.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ["PATH"] += "".join(f"{os.pathsep}{path}" for path in PYENV.glob("versions/3.1*/bin"))
# The newest is tested where it is found.
NEWEST = [version for version in ["3.14"] if shutil.which(f"python{version}")]
PYTHONS = ["3.10", "3.11", "3.12", "3.13", *NEWEST]


@nox.session(allow_parallel=True)
def style(session: nox.Session) -> None:
    """Check format and lint."""
    session.install("--group", "lint")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")


@nox.session(allow_parallel=True)
def types(session: nox.Session) -> None:
    """Check all types, twice, and that each public name has one."""
    session.install("--editable", ".", "--group", "dev")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", PACKAGE, "--ignoreexternal")


@nox.session(allow_parallel=True)
def coverage(session: nox.Session) -> None:
    """Run all tests on the newest versions: they are to see each line and branch."""
    session.install("--editable", ".", "--group", "coverage")
    session.run("coverage", "erase")
    run_tests(session, "coverage", "run", "--module", "pytest")
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(allow_parallel=True)
def power_cut(session: nox.Session) -> None:
    """Look at what power cuts may leave of a spool; the tests look at a small part of it."""
    session.install("--editable", ".", "--group", "test")
    session.run("python", "-m", "tests.power_cut", *session.posargs)


# Atheris needs 3.11, and so does the Starlette that is the measure.
@nox.session(python="3.13" if RUNNING == "3.10" else None, allow_parallel=True)
def fuzz(session: nox.Session) -> None:
    """Look for what breaks our readers of forms, names and records; `make fuzz` does so longer."""
    session.install("--editable", ".", "--group", "fuzz")
    found = session.create_tmp()
    options = session.posargs or ["--seconds", "40"]
    session.run("python", "-m", "tests.fuzzing", "--directory", found, *options)


@nox.session(allow_parallel=True)
def wheel(session: nox.Session) -> None:
    """Build both distributions, install the wheel, and run the tests of the other on it."""
    here = Path(session.create_tmp())
    shutil.rmtree(here)
    # The wheel is built of the source distribution.
    session.run("uv", "build", "--quiet", "--out-dir", str(here))
    (built,) = here.glob("*.whl")
    if f"{PACKAGE}/py.typed" not in zipfile.ZipFile(built).namelist():
        session.error("The wheel has no py.typed.")
    session.install(str(built))
    session.run("python", "-I", "-c", f"import {PACKAGE}")

    (packed,) = here.glob("*.tar.gz")
    shutil.unpack_archive(packed, here)
    source = here / packed.name.removesuffix(".tar.gz")
    shutil.rmtree(source / PACKAGE)
    session.install("--group", "test")
    session.chdir(source)
    run_versions(session)


@nox.session(python=[version for version in PYTHONS if version != RUNNING], allow_parallel=True)
def python(session: nox.Session) -> None:
    """Run the tests on another Python, with the newest versions that it can have."""
    session.install("--editable", ".", "--group", "test")
    run_versions(session)


@nox.session(allow_parallel=True)
@nox.parametrize(
    "requirements",
    [
        nox.param(["fastapi==0.109.*"], id="fastapi-0.109"),
        nox.param(["fastapi==0.115.*", "starlette==0.46.*"], id="fastapi-0.115"),
        nox.param(["fastapi==0.117.1"], id="fastapi-0.117"),
        nox.param(["fastapi==0.118.*"], id="fastapi-0.118"),
        nox.param(["starlette==1.5.*"], id="starlette-1.5"),
        nox.param(["starlette==1.6.*"], id="starlette-1.6"),
    ],
)
def older(session: nox.Session, requirements: list[str]) -> None:
    """Run the tests on older versions of what the package stands on. `lowest` has the oldest."""
    session.install("--editable", ".", "--group", "test", *requirements)
    run_versions(session)


@nox.session(allow_parallel=True)
def lowest(session: nox.Session) -> None:
    """Run the tests on the lowest version of each dependency that pyproject.toml allows."""
    versions = str(Path(session.create_tmp()) / "lowest.txt")
    resolve = ["uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct"]
    session.run(*resolve, "--output-file", versions, "pyproject.toml")
    session.install("--editable", ".", "--group", "test", "--constraint", versions)
    run_versions(session)


@nox.session(allow_parallel=True)
def docs(session: nox.Session) -> None:
    """Build the site of the docs; a broken link or an unknown name fails."""
    session.install("--group", "site")
    session.run("zensical", "build", "--strict")


def run_versions(session: nox.Session) -> None:
    """Run the tests that versions matter to; some don't apply to all, and may be skipped here."""
    run_tests(session, "pytest", "-m", "not once", REQUIRE_ALL_TESTS=None)


def run_tests(session: nox.Session, *command: str, **env: str | None) -> None:
    """Run tests in a temporary directory of their own: pytest tidies away those of others.

    Sessions run side by side, and then a server or a thread may be later than a test expects: what
    fails is run once more by itself, and both are told. `make test` knows no such mercy.
    """
    with tempfile.TemporaryDirectory() as directory:
        options = [f"--basetemp={directory}/t", f"--override-ini=cache_dir={directory}/cache"]
        try:
            session.run(*command, *options, *session.posargs, env=env)
        except CommandFailed:
            session.warn("What has failed is run once more.")
            session.run(*command, "--last-failed", *options, *session.posargs, env=env)
