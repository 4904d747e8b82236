"""The package keeps to its own plan: who may import whom, what is public, what is out of bounds."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import starlette_upload_keepalive as package

ROOT = Path(__file__).parents[1]
FOLDER = Path(package.__file__).parent
# From bottom to top: a module may import only those before it.
ORDER = (
    "quantities",
    "exceptions",
    "limits.__init__",
    "limits.media_types",
    "limits.signatures",
    "limits.sniffing",
    "limits.head_check",
    "limits.file_match",
    "limits.field_limits",
    "limits.limits",
    "limits.stepwise",
    "limits.reception",
    "files.__init__",
    "files.threads",
    "files.change_mark",
    "files.private_file",
    "files.filesystem",
    "files.over_limit",
    "files.budget",
    "files.disk_budget",
    "files.free_space",
    "files.open_files",
    "files.printable",
    "files.owner",
    "files.storage",
    "files.chunks",
    "files.memory_file",
    "files.checksum",
    "files.blob",
    "files.permissions",
    "files.copying",
    "files.saving",
    "files.exposed_path",
    "files.view",
    "files.allocator",
    "files.doorbell",
    "files.write_through",
    "files.write_behind",
    "files.safe_filename",
    "files.whole_file",
    "files.annotation",
    "files.upload",
    "files.detaching",
    "files.disk_errors",
    "forms.__init__",
    "forms.field_memory",
    "forms.multipart_type",
    "forms.plain_parts",
    "forms.part_parser",
    "forms.multipart",
    "events",
    "processes.__init__",
    "processes.import_name",
    "processes.channel",
    "processes.process_end",
    "processes.process_session",
    "processes.worker_process",
    "processes.tree_removal",
    "processes.scratch",
    "jobs.__init__",
    "jobs.event_log",
    "jobs.retry",
    "jobs.options",
    "jobs.work",
    "jobs.arguments",
    "jobs.error_text",
    "jobs.job_state",
    "jobs.record",
    "jobs.spool",
    "jobs.memory_spool",
    "jobs.job",
    "jobs.job_context",
    "jobs.current_stage",
    "jobs.stage",
    "jobs.signature",
    "jobs.selection",
    "jobs.history",
    "jobs.handler",
    "jobs.decorator",
    "jobs.calling",
    "jobs.in_process",
    "jobs.worker",
    "jobs.turns",
    "jobs.alarms",
    "jobs.attempt",
    "jobs.callbacks",
    "jobs.changes",
    "jobs.verdict",
    "jobs.recording",
    "jobs.accepting",
    "jobs.parked_job",
    "jobs.keeper",
    "jobs.parking",
    "jobs.registry",
    "jobs.executor",
    "jobs.runner",
    "jobs.known_jobs",
    "jobs.owned_upload",
    "jobs.stats",
    "spool.__init__",
    "spool.layout",
    "spool.root",
    "spool.disk",
    "spool.shared_sync",
    "spool.trust",
    "spool.entry",
    "spool.writing",
    "spool.reading",
    "spool.catalog",
    "spool.backlog",
    "spool.obstacles",
    "spool.left_alone",
    "spool.owned",
    "spool.rescue",
    "spool.sweeping",
    "spool.directory_spool",
    "spool.checking",
    "spool.command_line",
    "admission",
    "intake",
    "form_hook",
    "uploads",
    "middleware",
    "hooks.__init__",
    "hooks.structlog",
    "hooks.opentelemetry",
    "hooks.prometheus",
    "spool_contract.__init__",
    "spool_contract.case",
    "spool_contract.one_owner",
    "spool_contract.several_owners",
    "spool_contract.checking",
    "testing",
    "pytest_plugin",
    "__main__",
)
MODULES = {
    ".".join(path.relative_to(FOLDER).with_suffix("").parts): path
    for path in sorted(FOLDER.rglob("*.py"))
    if path != FOLDER / "__init__.py"
}
LONGEST = 400  # lines
each_module = pytest.mark.parametrize("module", MODULES)


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports(module: str) -> set[str]:
    """Return which of our modules it imports, for the type checker's eyes only or not."""
    found = set[str]()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = [package.__name__, *module.split(".")][: -node.level or None]
            prefix = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            found |= {f"{prefix}.{alias.name}" for alias in node.names}
    inside = {name.partition(".")[2] for name in found if name.split(".")[0] == package.__name__}
    return {name if name in MODULES else name.rpartition(".")[0] for name in inside}


def test_order_lists_every_module() -> None:
    assert sorted(ORDER) == sorted(MODULES)


@each_module
def test_imports_run_downwards(module: str) -> None:
    assert imports(module) <= set(ORDER[: ORDER.index(module)])


def test_form_hook_knows_nothing_of_running_jobs() -> None:
    reached, ahead = set[str](), {"form_hook"}
    while ahead:
        reached |= ahead
        ahead = {name for module in ahead for name in imports(module)} - reached
    assert not reached & {"jobs.handler", "jobs.runner", "uploads", "middleware"}


@each_module
def test_private_parts_of_starlette_stay_in_form_hook(module: str) -> None:
    if module != "form_hook":
        code = ast.unparse(tree(module))
        assert not re.findall(r"starlette\._\w+|\w+\._get_form\b|(?<!\bself)\._form\b", code)


@each_module
def test_out_of_bounds(module: str) -> None:
    nodes = list(ast.walk(tree(module)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    sources = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}

    # Validation must survive `python -O`.
    assert not [node.lineno for node in nodes if isinstance(node, ast.Assert)]
    # One code for each event loop: anyio's.
    assert not {name for name in names | sources if name and name.split(".")[0] == "asyncio"}
    # It runs the endpoint in a task of its own and hides the client's disconnect.
    assert "BaseHTTPMiddleware" not in {
        name.name for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names
    } | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_all_is_the_public_surface() -> None:
    """To type checkers, and to those who ask for a name."""
    source = ast.parse((FOLDER / "__init__.py").read_text())
    told = {
        alias.name: f"{package.__name__}.{node.module}"
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told.keys() | {"__version__"} == set(package.__all__) == set(dir(package))
    assert {name: getattr(package, name).__module__ for name in told} == told
    names = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert names == told.keys()
    with pytest.raises(AttributeError, match="has no attribute 'Blob'"):
        _ = package.Blob  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_worker_imports_nothing_that_only_an_app_needs() -> None:
    """It is most of what a job in a process of its own waits for."""
    script = """
import sys
import starlette_upload_keepalive.jobs.worker
from starlette_upload_keepalive import JobContext, Upload

print(*sys.modules)
"""
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    loaded = {name.removeprefix(f"{package.__name__}.") for name in run.stdout.split()}
    assert "jobs.worker" in loaded
    of_an_app = {"events", "intake", "jobs.handler", "jobs.job", "middleware", "uploads"}
    assert not loaded & of_an_app
    assert not [name for name in loaded if name.startswith(("spool", "hooks", "starlette.routing"))]


@pytest.mark.parametrize("name", [name for name in package.__all__ if name != "__version__"])
def test_public_name_is_documented_and_tells_where_it_lives(name: str) -> None:
    value = getattr(package, name)

    assert inspect.cleandoc(value.__doc__ or "")
    assert value.__name__ == name
    assert getattr(sys.modules[value.__module__], name) is value
    assert value.__module__.startswith(f"{package.__name__}.")


def test_import_has_no_side_effects_and_needs_no_optional_library() -> None:
    script = """
import sys, threading
from starlette.requests import Request

form, before = Request._get_form, set(sys.modules)
import starlette_upload_keepalive

optional = {"fastapi", "hypercorn", "pandas", "PIL", "pydantic", "trio", "uvicorn"}
optional |= {"opentelemetry", "prometheus_client", "puremagic", "pytest", "structlog"}
assert not optional & (set(sys.modules) - before)
assert Request._get_form is form
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_import_needs_nothing_that_only_unix_has() -> None:
    script = """
import sys
from fastapi import FastAPI
import anyio.from_thread, asyncio, subprocess, tempfile

sys.platform = "win32"
sys.modules["fcntl"] = sys.modules["resource"] = None
import starlette_upload_keepalive

for name in starlette_upload_keepalive.__all__:
    getattr(starlette_upload_keepalive, name)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_no_file_is_long_without_a_reason() -> None:
    """One idea per file. A longer one says why, near its top: "Long: it is one table"."""
    sources = [
        path
        for folder in (FOLDER, *(ROOT / name for name in ("benchmarks", "examples", "tests")))
        for path in folder.rglob("*")
        if path.suffix in {".css", ".html", ".js", ".py"}
    ]
    assert ROOT / "tests/test_architecture.py" in sources
    long = {
        str(path.relative_to(ROOT)): len(lines)
        for path in [*sources, ROOT / "noxfile.py"]
        if len(lines := path.read_text().splitlines()) > LONGEST
        and not any(re.search(r"\bLong: \w", line) for line in lines[:20])
    }
    assert not long


def test_version_is_stated_once() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[?([^\]\s]+)", changelog, re.MULTILINE)

    assert newest
    assert newest[1] == package.__version__
