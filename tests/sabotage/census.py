"""Every place of the code where something keeps a promise, found in its syntax, and what the code is without it.

A sabotage is one change of one file: a sync that is not made, a check that always passes, a limit a thousand times as
wide, two steps in the other order. Knows Python's syntax and the names that matter; runs nothing. What syntax cannot
show stands in rules.txt.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# What keeps mail: the queue, the publish path, the disk, and both ends of the queue's streams.
SUBJECTS = (
    *sorted(f"services/queue/{path.name}" for path in (ROOT / "services" / "queue").glob("[a-z]*.py")),
    "services/local/publish.py",
    "services/local/sweep.py",
    "runtime/durable.py",
    *(["runtime/silence.py"] if (ROOT / "runtime/silence.py").exists() else []),
    "runtime/worker.py",
    "runtime/producer.py",
)

# These hold no mail and no truth about it: texts for people, wiring, configuration, generated answers.
_ONLY_CALLS = ("services/queue/server.py", "services/queue/config.py", "services/queue/filesystem.py")

# A name with one of these is a floor: less of it is what harms. Of all others, more of it does.
_FLOORS = ("_MIN", "MEMORY", "OLDEST", "REATTACH", "STILL", "SETTLE", "FREE_", "LASTS", "OFFER", "RESOLVE_S", "LEASE")
_FACTOR = 1_000

_CHECKSUMS = ("crc32", "crc", "sha256", "hexdigest")
_FLAGS = ("O_EXCL", "O_NOFOLLOW", "LOCK_EX")
_TRACE = ("point",)


class Kind(Enum):
    """What is taken away."""

    SYNC = "sync"
    RECHECK = "re-check"
    CALL = "disk call"
    LOCK = "lock"
    CHECKSUM = "checksum"
    GUARD = "guard"
    FLAG = "flag"
    LIMIT = "limit"
    ORDER = "order"
    RULE = "rule"


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One change: `pieces` are octets of the file and what stands there instead. `key` outlives changes elsewhere."""

    kind: Kind
    path: str
    line: int
    scope: str
    what: str
    pieces: tuple[tuple[int, int, bytes], ...]
    lines: frozenset[tuple[str, int]]  # file and line: who runs one of these may notice
    ordinal: int = 1

    @property
    def key(self) -> str:
        number = f" #{self.ordinal}" if self.ordinal > 1 else ""
        return f"{self.path} {self.scope} {self.kind.value}: {self.what}{number}"

    def applied(self, source: bytes) -> bytes:
        """The file with this change; SyntaxError when that is no Python."""
        for start, end, instead in sorted(self.pieces, reverse=True):
            source = source[:start] + instead + source[end:]
        compile(source, self.path, "exec")
        return source


def census(path: str) -> list[Sabotage]:
    """Every sabotage of one file, from its top to its end."""
    text = Text(path, (ROOT / path).read_bytes())
    found = sorted(_found(text), key=lambda one: (one.line, one.kind.value, one.what))
    seen: Counter[str] = Counter()
    numbered: list[Sabotage] = []
    for one in found:
        seen[one.key] += 1
        numbered.append(replace(one, ordinal=seen[one.key]))
    return numbered


class Text:
    """A file, its tree, and the octets of each node."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path = path
        self.source = source
        self.tree = ast.parse(source)
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def octets(self, node: ast.stmt | ast.expr) -> bytes:
        start, end = self.span(node)
        return self.source[start:end]

    def words(self, node: ast.stmt | ast.expr) -> str:
        """The node on one line."""
        return " ".join(ast.unparse(node).split())

    def sabotage(self, kind: Kind, scope: str, node: ast.stmt | ast.expr, instead: str, what: str) -> Sabotage:
        """A node replaced."""
        lines = frozenset((self.path, line) for line in range(node.lineno, (node.end_lineno or node.lineno) + 1))
        pieces = ((*self.span(node), instead.encode()),)
        return Sabotage(kind, self.path, node.lineno, scope, what, pieces, lines)

    @cached_property
    def scopes(self) -> list[tuple[str, list[ast.stmt]]]:
        """Every block of statements with the name of what it belongs to."""
        return list(_blocks("", self.tree.body))


def _blocks(scope: str, body: list[ast.stmt]) -> Iterator[tuple[str, list[ast.stmt]]]:
    yield scope or "-", body
    for node in body:
        inner = scope
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{scope}.{node.name}" if scope else node.name
        for field in ("body", "orelse", "finalbody"):
            block: list[ast.stmt] = getattr(node, field, [])
            if block:
                yield from _blocks(inner, block)
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                yield from _blocks(inner, handler.body)
        if isinstance(node, ast.Match):
            for case in node.cases:
                yield from _blocks(inner, case.body)


def _found(text: Text) -> Iterator[Sabotage]:
    calls_only = text.path in _ONLY_CALLS
    for scope, block in text.scopes:
        yield from _swaps(text, scope, block)
        for node in block:
            yield from _calls(text, scope, node)
            yield from _limits(text, scope, node)
            if not calls_only:
                yield from _guards(text, scope, node)
                yield from _flags(text, scope, node)


# -- what is done and would not be ------------------------------------------------------------------------------------


def disk_methods() -> frozenset[str]:
    """The names of everything that can be asked of the disk."""
    tree = ast.parse((ROOT / "runtime/durable.py").read_bytes())
    disk = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Disk")
    return frozenset(node.name for node in disk.body if isinstance(node, ast.FunctionDef))


_DISK = disk_methods()
_OF_THE_MACHINE = {"fsync", "fdatasync", "posix_fallocate", "rename", "link", "unlink", "pwrite", "rmtree", "ftruncate"}
_OF_A_LOG = {"recheck", "remove_segment", "remove_empty", "remove_large", "store_large"}


def _called(node: ast.stmt) -> ast.Call | None:
    """The call that a statement is, for its effect alone."""
    value = node.value if isinstance(node, ast.Expr) else None
    value = value.value if isinstance(value, ast.Await) else value
    return value if isinstance(value, ast.Call) else None


def _name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _kind_of(path: str, call: ast.Call) -> Kind | None:
    name = _name_of(call)
    on = ast.unparse(call.func).rpartition(".")[0]
    if name == "recheck":
        return Kind.RECHECK
    if name == "flock":
        return Kind.LOCK
    if name.startswith("sync_") or name in ("fsync", "fdatasync"):
        return Kind.SYNC
    if (name in _DISK and "disk" in on) or (on == "os" and name in _OF_THE_MACHINE) or name == "remove_empty":
        return Kind.CALL
    return Kind.CALL if path == "runtime/durable.py" and name in _DISK | _OF_THE_MACHINE else None


def _calls(text: Text, scope: str, node: ast.stmt) -> Iterator[Sabotage]:
    call = _called(node)
    kind = _kind_of(text.path, call) if call else None
    if kind:
        yield text.sabotage(kind, scope, node, "pass", f"without {text.words(node)}")


# -- what is refused and would not be ---------------------------------------------------------------------------------


def _refuses(body: list[ast.stmt]) -> bool:
    """Whether a branch ends what was asked for: it raises, or returns nothing, no, or a text."""
    last = body[-1]
    if isinstance(last, ast.Raise):
        return True
    if not isinstance(last, ast.Return):
        return False
    value = last.value
    return value is None or isinstance(value, ast.Constant) or (isinstance(value, ast.Name) and value.id.isupper())


def _guards(text: Text, scope: str, node: ast.stmt) -> Iterator[Sabotage]:
    if isinstance(node, ast.If) and _refuses(node.body):
        yield from _conditions(text, scope, node.test)
    refused = isinstance(node, ast.Raise) and node.cause is not None
    if refused or (isinstance(node, ast.Assert) and scope != "-" and "is not None" not in text.words(node)):
        yield text.sabotage(Kind.GUARD, scope, node, "pass", f"without {text.words(node)}")


def _conditions(text: Text, scope: str, test: ast.expr) -> Iterator[Sabotage]:
    """A condition that is never met; of one that has parts, each part for itself."""
    parts = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or) else [test]
    for part in parts:
        words = text.words(part)
        kind = Kind.CHECKSUM if any(name in words for name in _CHECKSUMS) else Kind.GUARD
        yield text.sabotage(kind, scope, part, "False", f"never mind {words}")
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        for part in test.values:
            yield text.sabotage(Kind.GUARD, scope, part, "True", f"regardless of {text.words(part)}")


def _flags(text: Text, scope: str, node: ast.stmt) -> Iterator[Sabotage]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.With | ast.Try | ast.For | ast.If):
        return  # their blocks come by themselves
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and inner.attr in _FLAGS:
            yield text.sabotage(Kind.FLAG, scope, inner, "0", f"without {text.words(inner)}")


# -- what is bounded and would not be ---------------------------------------------------------------------------------


def _limits(text: Text, scope: str, node: ast.stmt) -> Iterator[Sabotage]:
    if scope != "-" or not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return
    name = node.targets[0].id
    if not name.isupper() or not _is_number(node.value):
        return
    value = text.octets(node.value).decode()
    is_floor = any(part in name for part in _FLOORS)
    instead = f"({value}) / {_FACTOR}" if "." in value else f"({value}) // {_FACTOR}"
    one = text.sabotage(
        Kind.LIMIT,
        scope,
        node.value,
        instead if is_floor else f"({value}) * {_FACTOR}",
        f"{name} {'divided by' if is_floor else 'times'} {_FACTOR:,}",
    )
    yield replace(one, lines=_all_uses().get(name, frozenset()))


def _is_number(value: ast.expr) -> bool:
    inner = list(ast.walk(value))
    numbers = [node for node in inner if isinstance(node, ast.Constant)]
    return (
        bool(numbers)
        and all(isinstance(node.value, int | float) and not isinstance(node.value, bool) for node in numbers)
        and all(
            isinstance(node, ast.Constant | ast.BinOp | ast.operator | ast.Name | ast.expr_context) for node in inner
        )
    )


@cache
def _all_uses() -> dict[str, frozenset[tuple[str, int]]]:
    """Where the subjects look at names in capitals."""
    found: dict[str, set[tuple[str, int]]] = {}
    for path in SUBJECTS:
        for node in ast.walk(ast.parse((ROOT / path).read_bytes())):
            if isinstance(node, ast.Name) and node.id.isupper() and isinstance(node.ctx, ast.Load):
                found.setdefault(node.id, set()).add((path, node.lineno))
    return {name: frozenset(lines) for name, lines in found.items()}


# -- what comes first and would come second ---------------------------------------------------------------------------


def _is_step(node: ast.stmt) -> bool:
    """Whether the order of a statement may matter: it does something to the disk or the log, or tells somebody."""
    return any(isinstance(inner, ast.Call) and _matters(inner) for inner in ast.walk(node))


def _matters(call: ast.Call) -> bool:
    name = _name_of(call)
    if name == "append":
        return "log" in ast.unparse(call.func)
    return name in _DISK | _OF_A_LOG | _TOLD or "sync" in name


_TOLD = {"then", "answer", "set_result", "learn", "add", "_tell", "remove", "retain", "adopt", "_hold_lock"}


def _is_trace(node: ast.stmt) -> bool:
    call = _called(node)
    return call is not None and _name_of(call) in _TRACE


def _swaps(text: Text, scope: str, block: list[ast.stmt]) -> Iterator[Sabotage]:
    """Neighbours, with at most a crash point between them, of which both are steps; or one is, beside a crash point."""
    steps = [node for node in block if not _is_trace(node)]
    for first, second in pairwise(steps):
        apart = any(_is_trace(node) for node in block[block.index(first) : block.index(second)])
        both = _is_step(first) and _is_step(second)
        if not both and not (apart and (_is_step(first) or _is_step(second))):
            continue
        if not isinstance(first, _SIMPLE) or not isinstance(second, _SIMPLE) or _binds(first) & _reads(second):
            continue
        pieces = ((*text.span(first), text.octets(second)), (*text.span(second), text.octets(first)))
        what = f"{_short(text, second)} before {_short(text, first)}"
        lines = frozenset(((text.path, first.lineno), (text.path, second.lineno)))
        yield Sabotage(Kind.ORDER, text.path, first.lineno, scope, what, pieces, lines)


_SIMPLE = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.For, ast.With, ast.Delete)


def _short(text: Text, node: ast.stmt) -> str:
    if isinstance(node, ast.For | ast.With):
        return text.words(node).partition(":")[0]
    return text.words(node)


def _binds(node: ast.stmt) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}


def _reads(node: ast.stmt) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
