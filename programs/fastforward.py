"""fastforward(1): forwards a message as a database of setforward's or newaliases's says, from within `.qmail-default`.

Knows in which order the database is asked and what is done with each command; what the database holds is
mail/forwarding.py. A database or a list that cannot be read defers the message, an address that is not there bounces.
"""

import os
import stat
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap

from mail import cdb, forwarding
from programs.complaint import PERMANENT, TEMPORARY, Fatal, because, die, octets, reported, say
from programs.options import WRONG, Options

_PASSED_ON = 0  # qmail-command(8): the next line of .qmail is to deliver
_ACTED = 99  # ... the rest of .qmail is not for this message
_FOR_EVER = (100, 64, 65, 70, 76, 77, 78, 112)

_LIST_MAX_OCTETS = 256 * 1024 * 1024  # some million addresses, more than one message is sent to
_EVERYBODY_READS = 0o444

# A bounce, and a bounce of a bounce: their sender stays what it is.
_NULL_SENDERS = (b"", b"#@[]")


class Unknown(Exception):
    """The database has nothing for the address that the message came for."""


class ProgramFailed(Exception):
    """A program said no, and why; the message is not forwarded. `status` is fastforward's."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


class Forwarding:
    """What becomes of one message: commands wait on a stack, and each is obeyed once."""

    def __init__(self, database: "Database", sender: bytes, delivering: bool) -> None:
        """A message that is not to be delivered runs no program either: it says what it would run."""
        self.sender = sender
        self.recipients: list[bytes] = []
        self._database = database
        self._delivering = delivering
        self._todo: list[bytes] = []
        self._done: set[bytes] = set()

    def decide(self, address: bytes) -> None:
        """Runs the programs, and gathers the recipients in the order of the database; raises Unknown,
        ProgramFailed and Fatal."""
        self._done.add(address)
        if self.sender not in _NULL_SENDERS:
            owner = self._database.find(b"?", _candidates(address))
            if owner is not None:
                self.sender = owner.partition(b"\0")[0]
        value = self._database.find(b":", _candidates(address))
        if value is None:
            raise Unknown
        self._obey(value)
        while self._todo:
            command = self._todo.pop()
            if command in self._done:
                continue
            self._done.add(command)
            if command.startswith(b"&"):
                self._address(command[1:])
            else:
                self._todo += [one for one in _mailing_list(command) if not one.startswith((b"|", b"!"))]
        self.recipients.reverse()

    def _address(self, address: bytes) -> None:
        """An address among the commands: only an instruction of its own name counts, and one without an owner."""
        if self._database.find(b"?", [address]) is None:
            value = self._database.find(b":", [address])
            if value is not None:
                self._obey(value)
                return
        self.recipients.append(address)

    def _obey(self, value: bytes) -> None:
        for command in forwarding.commands(value):
            if not command.startswith((b"|", b"!")):
                self._todo.append(command)
            elif self._delivering:
                _run(command)
            else:
                say(b"run " + _shown(command))


class Database:
    """A cdb on the disk, mapped and not read: what it costs does not grow with it."""

    def __init__(self, path: str) -> None:
        """Fatal when there is no such file."""
        self._path = path
        self._content: mmap | None = None
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(error) from error

    def find(self, kind: bytes, names: Sequence[bytes]) -> bytes | None:
        """What stands under the first of the names that is there. Fatal (111) for a file that is no database."""
        try:
            if self._content is None:
                self._content = _mapped(self._fd)
            values = (cdb.find(self._content, kind + name.lower()) for name in names)
            return next((value for value in values if value is not None), None)
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError as error:  # empty, or no cdb
            raise Fatal(TEMPORARY, f"unable to read {self._path}: input/output error") from error

    def _unreadable(self, error: OSError) -> Fatal:
        return because(f"unable to read {self._path}: ", error)


def main(words: Sequence[str]) -> int:
    """0 (with -p: 99) when the message was forwarded; 100 for an unknown address (with -p: 0); 100 or 111 with a
    reason."""
    options = Options("fastforward", words, "nNpPdD")
    chosen = {"n": False, "p": False, "d": False}
    for letter, _ in options:
        if letter == WRONG:
            return _usage()
        chosen[letter.lower()] = letter.islower()
    if not options.rest:
        return _usage()
    return reported("fastforward", lambda words: _forward(words[0], **chosen), options.rest)


def _usage() -> int:
    return die(PERMANENT, "fastforward: usage: fastforward [ -nNpP ] data.cdb")


def _forward(path: str, n: bool, p: bool, d: bool) -> int:
    sender = os.environb.get(b"SENDER", b"original envelope sender")
    todo = Forwarding(Database(path), sender, delivering=not n)
    try:
        todo.decide(_recipient(by_default=d))
    except ProgramFailed as failure:
        return failure.status
    except Unknown:
        return _PASSED_ON if p else die(PERMANENT, "Sorry, no mailbox here by that name. (#5.1.1)")
    done = _ACTED if p else 0
    if n:
        _show(todo)
    elif todo.recipients:
        from programs.forward import hand_on

        line = os.environb.get(b"DTLINE", b"")
        say(b"fastforward: qp " + hand_on(todo.sender, todo.recipients, line))
    return done


def _show(todo: Forwarding) -> None:
    if not todo.recipients:
        say("no forwarding")
        return
    say(b"from <" + _shown(todo.sender) + b">")
    for recipient in todo.recipients:
        say(b"to <" + _shown(recipient) + b">")


def _recipient(by_default: bool) -> bytes:
    """The address that the message came for; Fatal where the environment does not say."""
    environment = os.environb
    if not by_default:
        if b"RECIPIENT" not in environment:
            raise Fatal(PERMANENT, "$RECIPIENT must be set")
        return environment[b"RECIPIENT"]
    box = environment.get(b"DEFAULT", environment.get(b"EXT"))
    if box is None:
        raise Fatal(PERMANENT, "$DEFAULT or $EXT must be set")
    if b"HOST" not in environment:
        raise Fatal(PERMANENT, "$HOST must be set")
    return box + b"@" + environment[b"HOST"]


def _mapped(fd: int) -> mmap:
    """The file in memory; ValueError when it is empty."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.read(fd, 1)  # says what mmap(2) has no word for
    return mmap(fd, 0, access=ACCESS_READ)


def _candidates(address: bytes) -> Sequence[bytes]:
    """The names under which an incoming address is looked for: itself, its host, its box at any host."""
    box, at, host = address.rpartition(b"@")
    return (address, at + host, box + at) if at else (address,)


def _mailing_list(path: bytes) -> Sequence[bytes]:
    """The commands of a binary mailing list; Fatal (111) when it is not to be had or not for everybody to read."""
    name = os.fsdecode(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            if os.fstat(fd).st_mode & _EVERYBODY_READS != _EVERYBODY_READS:
                raise Fatal(TEMPORARY, f"{name} is not world-readable")
            content = file.read(_LIST_MAX_OCTETS + 1)
    except OSError as error:
        raise because(f"unable to read {name}: ", error) from error
    if len(content) > _LIST_MAX_OCTETS:
        raise Fatal(TEMPORARY, f"{name} is longer than {_LIST_MAX_OCTETS} bytes")
    return list(forwarding.commands(content))


def _run(command: bytes) -> None:
    """Runs `|program` or `!program` with the message, and rewinds it; ProgramFailed unless it exits 0, Fatal."""
    shell = ["sh", "-c", os.fsdecode(command[1:])]
    words = ["preline", *shell] if command.startswith(b"!") else shell
    try:
        from signal import SIGPIPE, SIGXFSZ

        pid = os.posix_spawnp(words[0], words, os.environ, setsigdef=(SIGPIPE, SIGXFSZ))
    except OSError as error:
        raise because(f"unable to run {os.fsdecode(command)}: ", error) from error
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        raise Fatal(TEMPORARY, b"child crashed in " + command)
    if code:
        raise ProgramFailed(PERMANENT if code in _FOR_EVER else TEMPORARY)
    try:
        os.lseek(0, 0, os.SEEK_SET)
    except OSError as error:
        raise because("unable to rewind input: ", error) from error


def _shown(text: bytes) -> bytes:
    return octets(text).translate(_SHOWN)


_SHOWN = bytes(octet if 32 <= octet < 128 else ord("_") for octet in range(256))
