"""What a program in a .qmail file may use: softlimit(8)'s words in control/softlimit, a time, an amount of output.

Knows those three control files, setrlimit(2), and nothing of programs. The spawner's child gets the limits with its
question, so that they follow the control files at SIGHUP; `ProgramLimits` is numbers alone for that reason.
"""

import dataclasses
import resource
from dataclasses import dataclass

from runtime.config import ConfigError
from runtime.controls import Controls, read_all

MIB = 1024 * 1024
NO_LIMIT = -1

# A gibibyte of address space holds every interpreter and filter that mail is piped through, and not two of a bomb.
ADDRESS_SPACE_OCTETS = 1024 * MIB
# Of one process. Half of the wall clock's: whoever computes for longer is in a loop.
CPU_S = 150
# Counted over all processes of the user, a shell that he has open elsewhere included: room for those, none for a bomb.
PROCESSES = 256
FILES = 256
# An mbox or a log that a program appends to may be large; a program that fills the disk ends here.
FILE_OCTETS = 4096 * MIB
CORE_OCTETS = 0  # a core would hold other people's mail
WALL_S = 300  # Postfix gives 1000 s, Exim an hour; while it runs the user's other mail waits
# Of what a program says, this much is kept for the report, which has room for 3000 octets of it.
OUTPUT_OCTETS = 20_000

_NUMBER_MAX = 2**62 - 1
_WALL_MAX_S = 86_400


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """Numbers as setrlimit(2) takes them, NO_LIMIT for none; `wall_s` is before TIME_SCALE. `dataclasses.astuple` and
    `ProgramLimits(*row)` carry it over a socket."""

    address_space: int = ADDRESS_SPACE_OCTETS
    core: int = CORE_OCTETS
    data: int = NO_LIMIT
    file_size: int = FILE_OCTETS
    locked: int = NO_LIMIT
    files: int = FILES
    processes: int = PROCESSES
    resident: int = NO_LIMIT
    stack: int = NO_LIMIT
    cpu_s: int = CPU_S
    wall_s: int = WALL_S
    output: int = OUTPUT_OCTETS

    def apply(self, own_uid: bool) -> None:
        """Limits this process and whatever it becomes, for good: it cannot raise them again. A number above what the
        process has as its hard limit means that one. `own_uid`: the uid is one user's, so his processes may be counted;
        without root everybody is the invoking user. OSError when the kernel refuses."""
        for field, kind in _KINDS.items():
            wanted = int(getattr(self, field))
            if wanted == NO_LIMIT or (kind == resource.RLIMIT_NPROC and not own_uid):
                continue
            _, hard = resource.getrlimit(kind)
            room = _NUMBER_MAX if hard == resource.RLIM_INFINITY else hard
            # Both limits of time at once would be SIGKILL: SIGXCPU comes a second before, and says what happened.
            last = wanted + 1 if kind == resource.RLIMIT_CPU else wanted
            resource.setrlimit(kind, (min(wanted, room), min(last, room)))


_KINDS = {
    "address_space": resource.RLIMIT_AS,
    "core": resource.RLIMIT_CORE,
    "data": resource.RLIMIT_DATA,
    "file_size": resource.RLIMIT_FSIZE,
    "locked": resource.RLIMIT_MEMLOCK,
    "files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "resident": resource.RLIMIT_RSS,
    "stack": resource.RLIMIT_STACK,
    "cpu_s": resource.RLIMIT_CPU,
}
# softlimit(8)'s letters. Its -m is four of them at once.
_LETTERS = {
    "a": ("address_space",),
    "c": ("core",),
    "d": ("data",),
    "f": ("file_size",),
    "l": ("locked",),
    "m": ("data", "stack", "locked", "address_space"),
    "o": ("files",),
    "p": ("processes",),
    "r": ("resident",),
    "s": ("stack",),
    "t": ("cpu_s",),
}


def read(controls: Controls) -> ProgramLimits:
    """control/softlimit, timeoutprogram and outputbytes over the defaults; ConfigError with every mistake in them."""
    found: list[ProgramLimits] = []
    numbers: dict[str, int] = {}
    read_all(
        lambda: found.append(_softlimit(controls)),
        lambda: numbers.update(wall_s=_number(controls, "timeoutprogram", WALL_S, (1, _WALL_MAX_S))),
        lambda: numbers.update(output=_number(controls, "outputbytes", OUTPUT_OCTETS, (0, MIB))),
    )
    return dataclasses.replace(found[0], **numbers)


def _softlimit(controls: Controls) -> ProgramLimits:
    mistakes: list[str] = []
    numbers: dict[str, int] = {}
    for line in controls.listing("softlimit") or ():
        words = line.split()
        while words:
            option = words.pop(0)
            fields = _LETTERS.get(option[1:2], ()) if option.startswith("-") else ()
            value = option[2:] or (words.pop(0) if words else "")
            number = NO_LIMIT if value == "=" else int(value) if value.isascii() and value.isdecimal() else None
            if not fields or number is None or number > _NUMBER_MAX:
                where, letters = controls.path("softlimit"), " -".join(sorted(_LETTERS))
                mistakes.append(
                    f"{where}: {line[:60]!r} is not softlimit's: write options such as -a 1000000000, of -{letters},"
                    " with a whole number, or = for no limit of ours"
                )
                break
            numbers.update(dict.fromkeys(fields, number))
    if mistakes:
        raise ConfigError(mistakes)
    return ProgramLimits(**numbers)


def _number(controls: Controls, name: str, default: int, bounds: tuple[int, int]) -> int:
    number = controls.integer(name, default)
    low, high = bounds
    if not low <= number <= high:
        path = controls.path(name)
        raise ConfigError([f"{path}: {number} is not from {low} to {high}: write such a number, like {default}"])
    return number
