"""The tables in the docs tell what there is: names, options, defaults, states, events, modules."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import starlette_upload_keepalive as package
from starlette_upload_keepalive import (
    DirectorySpool,
    FieldLimits,
    Handler,
    JobState,
    Limits,
    Retry,
    Upload,
    Uploads,
    events,
    exceptions,
)
from starlette_upload_keepalive.jobs.known_jobs import Jobs
from starlette_upload_keepalive.jobs.options import MAX_PRIORITY
from starlette_upload_keepalive.spool import layout
from starlette_upload_keepalive.spool.command_line import main
from starlette_upload_keepalive.spool.entry import Entry, State
from tests.pages import ROOT
from tests.test_architecture import ORDER

UNITS = {"": 1, "s": 1, "days": 24 * 3600, "KiB": 1024, "MiB": 1024 * 1024}
# What a table says of a default that is no number.
WORDS = {
    "none": (None, ()),
    "any": (None, ()),
    "one per CPU": (None,),
    "the function's": (None,),
    "the system's": (None,),
    "`log_events`": ((package.log_events,),),
    "`Exception`": (Exception,),
    "needed": (inspect.Parameter.empty,),
}
EVENTS = {
    name: value
    for name, value in vars(events).items()
    if inspect.isclass(value) and issubclass(value, events.JobEvent)
}


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def rows(page: str, heading: str = "") -> dict[str, list[str]]:
    """Find what the tables below a heading say of each name in their first column."""
    below = text_of(page).partition(f"{heading}\n")[2]
    section = re.split(r"^## ", below, maxsplit=1, flags=re.MULTILINE)[0] if heading else below
    found = re.findall(r"^\| \[?`(\w+)`[^|]*\|(.*)\|$", section, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in found}


def says(cell: str, default: object) -> bool:
    """Whether a table's cell tells the default."""
    number = re.fullmatch(r"([\d.,]+) ?([A-Za-z]*)", cell)
    if number and not isinstance(default, bool):
        return float(number[1].replace(",", "")) * UNITS[number[2]] == default
    if cell in WORDS:
        return default in WORDS[cell]
    return cell == f"`{default!r}`".replace("'", '"')


def defaults_of(function: object) -> Mapping[str, object]:
    assert callable(function)
    parameters = inspect.signature(function).parameters
    return {name: each.default for name, each in parameters.items() if name != "self"}


@pytest.mark.parametrize(
    ("page", "heading", "function"),
    [
        ("docs/options.md", "# Options", Uploads),
        ("docs/handlers.md", "## Options", Uploads.handler),
        ("docs/handlers.md", "## Try again", Retry),
        ("docs/spool.md", "## Options", DirectorySpool),
        ("docs/limits.md", "## For the app", Limits),
        ("docs/limits.md", "## For a field", FieldLimits),
    ],
)
def test_options(page: str, heading: str, function: object) -> None:
    told = {name: cells[0] for name, cells in rows(page, heading).items()}
    told.pop("Retry", None)  # the head of its table
    there = defaults_of(function)

    assert list(told) == list(there)
    assert [name for name in told if not says(told[name], there[name])] == []


def test_options_of_files() -> None:
    told = rows("docs/files.md", "## Options")
    there: dict[str, list[str]] = {}
    for call in (Upload.save, Upload.save_to, Upload.as_path):
        for name, each in inspect.signature(call).parameters.items():
            if each.kind is each.KEYWORD_ONLY:
                there.setdefault(name, []).append(call.__name__)
                assert says(told[name][0], each.default)
    assert {name: re.findall(r"`(\w+)`", cells[1]) for name, cells in told.items()} == there


def test_no_default_is_told_that_is_none() -> None:
    assert not says("8", 9)
    assert not says("`False`", True)
    assert not says("none", 1)


def test_all_names() -> None:
    here = [f"`{name}`" for name in package.__all__]
    told = re.findall(
        r"^\| \[?(`\w+`)",
        text_of("docs/names.md").partition("## `starlette_upload_keepalive.")[0],
        re.MULTILINE,
    )
    assert sorted(told) == sorted(here)


@pytest.mark.parametrize("name", ["events", "testing", "pytest_plugin"])
def test_names_of_a_module(name: str) -> None:
    module = importlib.import_module(f"{package.__name__}.{name}")
    fixtures = [key for key in vars(module) if key.startswith("finish_upload")]
    there = vars(module).get("__all__", fixtures)
    told = rows("docs/names.md", f"## `starlette_upload_keepalive.{name}`")
    assert sorted(told) == sorted(there)


def test_all_events_are_public() -> None:
    assert EVENTS.keys() <= set(events.__all__)


@pytest.mark.parametrize("name", events.__all__)
def test_reference_has_each_event(name: str) -> None:
    assert f"::: {events.__name__}.{name}\n" in text_of("docs/api/hooks.md")


def test_names_of_hooks() -> None:
    folder = Path(importlib.import_module(f"{package.__name__}.hooks").__path__[0])
    there = [
        f"{path.stem}.{name}"
        for path in folder.glob("[!_]*.py")
        for name in re.findall(r"^(?:class|def) ([A-Za-z]\w+)", path.read_text(), re.MULTILINE)
    ]
    section = text_of("docs/names.md").partition(".hooks`\n")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| \[`([\w.]+)`", section, re.MULTILINE)) == sorted(there)


def test_what_events_tell() -> None:
    told = rows("docs/hooks.md", "## Events")
    common = {field.name for field in fields(events.JobEvent)}

    assert told.keys() == EVENTS.keys() - {"JobEvent"}
    for name, cells in told.items():
        own = {field.name for field in fields(EVENTS[name])} - common
        assert set(re.findall(r"`(\w+)`", cells[1])) == own, name
    for name in common:
        assert f"`{name}`" in text_of("docs/hooks.md").partition("## Around")[0]


def test_states() -> None:
    assert list(rows("docs/jobs.md")) == [state.value for state in JobState]


def test_what_can_be_asked_of_jobs() -> None:
    calls = r"^\| `(?:await )?uploads\.jobs\.(\w+)\("
    told = re.findall(calls, text_of("docs/jobs.md"), re.MULTILINE)
    assert told == [name for name in vars(Jobs) if not name.startswith("_")]


def public(kind: type) -> list[str]:
    return [
        f"{kind.__name__}.{name}"
        for name, value in vars(kind).items()
        if not name.startswith("_") and inspect.isfunction(value)
    ]


def test_reference_has_what_can_be_asked_of_jobs_and_handlers() -> None:
    told = re.findall(
        r"^::: .*\b((?:Jobs|Handler)\.\w+)$", text_of("docs/api/handlers.md"), re.MULTILINE
    )
    # What runs a handler's jobs calls this, and nobody else does.
    assert told == [name for name in public(Handler) if name != "Handler.invoke"] + public(Jobs)


def test_the_tree_of_errors() -> None:
    tree = r"(?:├──|└──) (\w+)"
    assert re.findall(tree, text_of("docs/api/errors.md")) == re.findall(
        tree, exceptions.__doc__ or ""
    )


def test_architecture_draws_each_module_in_its_place() -> None:
    drawn: list[str] = []
    folder = ""
    for line in text_of("docs/architecture.md").split("```")[1].splitlines():
        heading, modules = line[:14].rstrip(), line[14:]
        if heading.endswith("/"):
            folder = f"{heading.strip(' /')}."
            drawn.append(heading.strip(" /"))
        elif re.match(r" \w", heading):
            folder = ""
        drawn += [folder + name for name in re.findall(r"[\w.]+", modules)]
    assert drawn == [name.removesuffix(".__init__") for name in ORDER]


def test_the_layout_of_a_spool() -> None:
    told = rows("docs/spool.md", "## Layout on the disk")
    assert list(told) == [*layout.FOLDERS, *get_args(State)]
    drawing = layout.__doc__ or ""
    assert all(f"    {folder}/" in drawing for folder in layout.FOLDERS)
    text = text_of("docs/spool.md")
    for name in (layout.RECORD, layout.ENDING, f"{layout.CHILDREN}/"):
        assert f"`{name}`" in text
    (example,) = re.findall(r"^[0-9a-f]{11}-[0-9a-f]{32}-\S+$", text, re.MULTILINE)
    assert Entry.parse(example) is not None


def test_the_command_line_of_a_spool(capsys: pytest.CaptureFixture[str]) -> None:
    told = rows("docs/spool.md", "## Command line")
    for name, cells in told.items():
        with pytest.raises(SystemExit):
            main(["spool", ".", name, "--help"])
        there = set(re.findall(r"--\w+", capsys.readouterr().out)) - {"--help"}
        assert set(re.findall(r"--\w+", cells[1])) == there, name
    with pytest.raises(SystemExit):
        main(["spool", ".", "--help"])
    names = re.search(r"\{([\w,]+)\}", capsys.readouterr().out)
    assert names
    assert list(told) == names[1].split(",")


def test_messages_that_can_be_found_in_the_log() -> None:
    code = "".join(path.read_text() for path in Path(package.__path__[0]).rglob("*.py"))
    told = re.findall(r'"([^"|\n]*…[^"|\n]*)"', text_of("docs/failures.md"))
    assert len(told) == 9
    assert [each for each in told if each.strip("… ") not in code] == []


@pytest.mark.parametrize("name", package.__all__)
def test_reference_has_each_name(name: str) -> None:
    reference = "".join(path.read_text() for path in (ROOT / "docs/api").glob("*.md"))
    assert name == "__version__" or f"::: {package.__name__}.{name}\n" in reference


def test_reference_names_only_what_there_is() -> None:
    reference = "".join(path.read_text() for path in (ROOT / "docs/api").glob("*.md"))
    found = re.findall(r"^::: (\S+)$", reference, re.MULTILINE)
    assert len(found) == len(set(found))
    assert [name for name in found if pydoc.locate(name) is None] == []


def test_range_of_priorities() -> None:
    told = f"from \N{MINUS SIGN}{MAX_PRIORITY} to {MAX_PRIORITY}"
    assert told in rows("docs/handlers.md", "## Options")["priority"][1]
    assert told[5:] in text_of("docs/comparison.md")
