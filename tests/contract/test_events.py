"""Every event has a name that stays, a room that emits it, and a line in that room's README.md."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "__main__.py").is_file())
# What runtime/serve.py emits for every room, and what anybody may.
OF_EVERYBODY = {"started", "stopping", "reread"}


@cache
def events() -> dict[str, str]:
    """The name of each event by the method that emits it, read from the source of runtime/events.py."""
    found = {}
    for node in ast.walk(ast.parse((ROOT / "runtime" / "events.py").read_bytes())):
        if isinstance(node, ast.ClassDef) and node.name == "Events":
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (name := _emitted(method)):
                    found[method.name] = name
    return found


def _emitted(method: ast.FunctionDef) -> str:
    for node in ast.walk(method):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "_emit":
            first = node.args[0]
            assert isinstance(first, ast.Constant), f"{method.name} gives _emit a name that is not a constant"
            return str(first.value)
    return ""


def used(path: Path) -> set[str]:
    """The event methods that a module names: `….events.accepted`, `self._events.accepted`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute)
        and node.attr in events()
        and getattr(node.value, "attr", getattr(node.value, "id", "")) in ("events", "_events")
    }


@cache
def runtime_modules(room: str) -> frozenset[Path]:
    """The modules of runtime/ that a room imports itself; what they emit is emitted in the room's name."""
    names: set[str] = set()
    for path in (ROOT / "services" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module == "runtime":
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runtime."):
                names.add(str(node.module).split(".")[1])
    paths = (ROOT / "runtime" / f"{name}.py" for name in names)
    return frozenset(path for path in paths if path.is_file())


def emitted_in(room: str) -> set[str]:
    modules = [*(ROOT / "services" / room).rglob("*.py"), *runtime_modules(room)]
    return OF_EVERYBODY | {method for path in modules for method in used(path)}


@pytest.mark.parametrize("room", ROOMS)
def test_the_readme_of_a_room_lists_its_events(room: str) -> None:
    readme = ROOT / "services" / room / "README.md"
    assert readme.is_file(), f"write services/{room}/README.md: what it promises, how, its events, limits, environment"
    quoted = set(re.findall(r"`([^`\n]+)`", readme.read_text()))
    missing = sorted(events()[method] for method in emitted_in(room) if events()[method] not in quoted)
    assert not missing, (
        f"services/{room} emits events that its README.md does not list; add to its list of events, in backticks: "
        + ", ".join(f"`{name}`" for name in missing)
    )


def test_no_two_methods_emit_an_event_of_one_name() -> None:
    names = list(events().values())
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)


def test_every_event_is_emitted_by_somebody() -> None:
    """A method that nobody calls is a promise to the reader of logs that nobody keeps."""
    everywhere = {method for room in ROOMS for method in emitted_in(room)}
    dead = sorted(set(events()) - everywhere)
    assert not dead, f"runtime/events.py has methods that no room calls: {', '.join(dead)}: remove them or emit them"
