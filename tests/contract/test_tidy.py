"""The house rules that no linter knows: sizes, names, walls for generated code, documents that tell the truth."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("mail", "runtime", "services", "cli", "programs", "bin", "tests")

FUNCTION_MAX_LINES = 60
MODULE_MAX_LINES = 400
MAIN_MAX_LINES = 60
BANNED_NAMES = {"utils", "util", "helpers", "helper", "manager", "base", "common"}

# Generated messages stop here; everybody further in speaks our own types.
RIMS = {
    "runtime/wire.py",
    "runtime/rpc.py",
    "runtime/worker.py",
    "runtime/producer.py",
    "cli/admin.py",
    "services/smtpd/accounts.py",
    "services/queue/parcels.py",
    "services/queue/records.py",
    "services/queue/rest.py",
}
RIM_NAMES = {"server.py", "intake.py", "links.py"}

# Folders of the repository that a document may point into. `control/` is not one: a document means the state's.
DOCUMENTED = {
    *(".ci", "bin", "cli", "docs", "k8s", "mail", "programs", "proto", "requirements", "runtime", "services", "tests")
}
_QUOTED = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
_PATH = re.compile(r"[\w.*/-]+")
_BARE_FILE = re.compile(r"[\w-]+\.(py|proto|md|toml|yml)")


def python_files(*rooms: str) -> Iterator[Path]:
    for room in rooms or ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield path
    if "bin" in rooms or not rooms:
        for path in sorted((ROOT / "bin").iterdir()):
            if not path.is_symlink() and re.match(rb"#!/usr/bin/env (-S )?python", path.read_bytes()):
                yield path


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def imported(path: Path) -> Iterator[str]:
    """Every module and every name that a file imports, dotted."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name(path)}: {node.name} has {lines} lines, the ceiling is {FUNCTION_MAX_LINES}: split it"
        for path in python_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_MAX_LINES
    ]
    assert not long, "\n".join(long)


def test_no_module_is_too_long_to_read() -> None:
    long = [
        f"{name(path)} has {lines} lines, the ceiling is {ceiling}: split it"
        for path in python_files()
        for ceiling in [MAIN_MAX_LINES if path.name == "__main__.py" else MODULE_MAX_LINES]
        if (lines := len(path.read_text().splitlines())) > ceiling
    ]
    assert not long, "\n".join(long)


def test_a_main_module_wires_and_holds_no_state() -> None:
    def is_wiring(node: ast.stmt) -> bool:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.If):
            return True
        if isinstance(node, ast.Assign | ast.AnnAssign):
            return isinstance(node.value, ast.Constant)
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

    odd = [
        f"{name(path)} line {node.lineno}: a __main__.py has imports, functions and the call of run, nothing else"
        for path in python_files("services", "cli")
        if path.name == "__main__.py"
        for node in tree(path).body
        if not is_wiring(node)
    ]
    assert not odd, "\n".join(odd)


def test_every_module_says_what_it_knows() -> None:
    silent = [name(path) for path in python_files() if not ast.get_docstring(tree(path))]
    assert not silent, "these modules have no docstring: " + ", ".join(silent)


def test_names_are_nouns_of_the_trade() -> None:
    vague = [name(path) for path in python_files() if BANNED_NAMES & {path.stem, *path.relative_to(ROOT).parts}]
    assert not vague, "name the thing that the file holds: " + ", ".join(vague)


def test_no_module_is_named_like_one_of_python() -> None:
    """The rooms themselves are the exception (queue, smtpd), and the reason why everything runs from the root."""
    named_alike = [
        name(path)
        for room in ("services", "runtime", "mail")
        for path in (ROOT / room).rglob("*")
        if (path.is_dir() or path.suffix == ".py")
        and path.stem in sys.stdlib_module_names
        and path.parent != ROOT / "services"
        and not path.stem.startswith("__")
    ]
    assert not named_alike, "Python has a module of this name; started from that folder it breaks: " + str(named_alike)


def test_tests_have_no_package_files() -> None:
    """A tests/unit/queue/__init__.py would hide the standard library's queue from pytest's own plugins."""
    found = [name(path) for path in (ROOT / "tests").rglob("__init__.py")]
    assert not found, "remove " + ", ".join(found)


def test_nothing_is_mocked() -> None:
    found = [name(path) for path in python_files() if any("unittest.mock" in one for one in imported(path))]
    assert not found, "a fake is a real implementation that passes the same suite: " + ", ".join(found)


def test_generated_messages_stay_at_the_rims() -> None:
    found = [
        f"{name(path)} imports {one}: only {', '.join(sorted(RIM_NAMES | RIMS))} may"
        for path in python_files("mail", "runtime", "services", "cli", "programs")
        if path.name not in RIM_NAMES and name(path) not in RIMS
        for one in imported(path)
        if re.search(r"_pb2(_grpc)?\b", one)
    ]
    assert not found, "\n".join(found)


def test_locks_are_hashed_and_name_no_registry() -> None:
    locks = sorted((ROOT / "requirements").glob("*.lock"))
    assert locks
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text, f"{name(lock)} names an address: locks hold names, versions and hashes"
        assert not re.search(r"^\s*-(i|f|-index-url|-extra-index-url|-find-links)\b", text, re.M), name(lock)
        pinned = re.findall(r"^[A-Za-z0-9][^\n]*(?:\n    [^\n]*)*", text, re.M)
        bare = [one.split()[0] for one in pinned if "==" not in one or "--hash=sha256:" not in one]
        assert not bare, f"{name(lock)}: not pinned with a hash: {bare}"


def test_the_locks_agree_and_leave_our_proto_folder_alone() -> None:
    """Tests run what the images run; and the distribution proto-plus would import as `proto`, which is ours."""
    pins = {
        lock.name: dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text(), re.M))
        for lock in (ROOT / "requirements").glob("*.lock")
    }
    apart = {one for one, at in pins["runtime.lock"].items() if pins["dev.lock"].get(one) != at}
    assert not apart, f"runtime.lock and dev.lock differ in {sorted(apart)}: compile both again"
    assert not {one for pin in pins.values() for one in pin if one.lower().startswith("proto-plus")}


def documents() -> Iterator[Path]:
    yield from sorted(ROOT.glob("*.md"))
    for folder in sorted(DOCUMENTED):
        yield from sorted((ROOT / folder).rglob("*.md"))


def paths_named(text: str) -> Iterator[str]:
    """What a document says is a path of the repository: links, and quoted words that look like one."""
    for target in _LINK.findall(text):
        if "://" not in target and not target.startswith("mailto:"):
            yield target
    for quoted in _QUOTED.findall(text):
        for word in quoted.split():
            bare = word.strip(",;()").split("::")[0].split("#")[0].rstrip(":.")
            if not _PATH.fullmatch(bare):
                continue
            if _BARE_FILE.fullmatch(bare) or ("/" in bare and bare.split("/")[0] in DOCUMENTED):
                yield bare


def exists(path: str, document: Path) -> bool:
    return any(
        place.joinpath(path).exists() or any(place.glob(path)) if "*" in path else place.joinpath(path).exists()
        for place in (document.parent, ROOT)
    )


def test_documents_name_only_paths_that_exist() -> None:
    dead = [
        f"{name(document)} names {path}, which does not exist"
        for document in documents()
        for path in paths_named(document.read_text())
        if not exists(path, document)
    ]
    assert not dead, "\n".join(dead)


def test_nothing_names_the_machine_it_was_written_on() -> None:
    """Absolute paths of a workshop and addresses of a private registry have no place in a repository."""
    workshop = re.compile(r"/work/(main|shared|\.library)|/tmp/w/|index-url *= *http", re.M)
    suffixes = {".py", ".md", ".toml", ".yml", ".yaml", ".lock", ".in", ".proto", ".sh", ".cfg", ""}
    found = [
        name(path)
        for path in [*ROOT.iterdir(), *(one for room in (*DOCUMENTED, "control") for one in (ROOT / room).rglob("*"))]
        if path.is_file()
        and path.suffix in suffixes
        and "__pycache__" not in path.parts
        and path != Path(__file__)
        and workshop.search(path.read_text(errors="replace"))
    ]
    assert not found, "these name a path or registry of one machine: " + ", ".join(found)
