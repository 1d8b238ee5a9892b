"""The environment of a program in a .qmail file: qmail-command(8)'s variables, a search path, ours, nothing inherited.

Pure: a delivery and its surroundings in, names and values out, as octets. Senders choose most of these values, and
shells read them, so none has a control character, none is long, and none begins as a shell's own words do.
"""

from dataclasses import dataclass

from mail import mbox
from services.local.delivery import Job

# An address has at most 900 octets; quoted, and with a name before it, twice that. A home has at most PATH_MAX, 4096.
VALUE_MAX_OCTETS = 4_096
# Where programs are besides ours: what a login shell of Debian's has, root's included, for sendmail and its like.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_CONTROLS = bytes((*range(0x20), 0x7F))
_TO_UNDERSCORE = bytes.maketrans(_CONTROLS, b"_" * len(_CONTROLS))
_ENDS_WITH_NEWLINE = frozenset({"DTLINE", "RPLINE", "UFLINE"})
# bash before 2014 ran what stood behind `() {` at the beginning of any variable (CVE-2014-6271).
_SHELLS_OWN = (b"(", b"{", b"`", b"$")
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Person:
    """What all programs of a user have in common. `bin_dir`, `socket_dir` and `control_dir` are absolute paths: our
    programs, the submission socket's directory ("" for none), the control files."""

    user: str
    home: str
    bin_dir: str
    socket_dir: str
    control_dir: str


def of_program(job: Job, person: Person, new_sender: str, default: str | None, instruction: int) -> dict[bytes, bytes]:
    """The environment of one program. `default` is `default_part` of the file, `instruction` its line's number."""
    values = {
        "SENDER": job.sender,
        "NEWSENDER": new_sender,
        "RECIPIENT": f"{job.local}@{job.host}",
        "USER": person.user,
        "HOME": person.home,
        "HOST": job.host,
        **_hosts(job.host),
        "LOCAL": job.local,
        **_extensions(job.ext),
        "DTLINE": job.delivered_to(),
        "RPLINE": job.return_path(),
        "DELIVERY_ID": delivery_id(job, instruction),
        "PATH": f"{person.bin_dir}:{SYSTEM_PATH}",
        "SEAPOST_CONTROL": person.control_dir,
    }
    if default is not None:
        values["DEFAULT"] = default
    if person.socket_dir:
        values["SEAPOST_SOCKET_DIR"] = person.socket_dir
    found = {name: value.encode("utf-8", "surrogateescape") for name, value in values.items()}
    found["UFLINE"] = from_line(job)
    return {name.encode(): _harmless(name, value) for name, value in found.items()}


def from_line(job: Job) -> bytes:
    """qmail's UFLINE, also an mbox's From_ line. Its date is the message's arrival, so that it is the same at every
    attempt; qmail's is the attempt's."""
    return mbox.from_line(job.sender.encode("utf-8", "surrogateescape"), job.arrived_s)


def delivery_id(job: Job, instruction: int) -> str:
    """The same at every attempt, and of no other delivery: message, recipient, instruction, as in a Maildir's file name
    (mail/maildir.py). A program that must not do a thing twice can remember it."""
    return f"{job.message}R{job.recipient}I{instruction}"


def default_part(dash: str, ext: str, name: str) -> str | None:
    """$DEFAULT: what `default` stands for in the .qmail file `name` of the address; None when it stands for nothing."""
    matched = name.removeprefix(f".qmail{dash}")
    if len(matched) == len(ext):
        return ext[-len(_DEFAULT) :] if matched.endswith(_DEFAULT) else None
    return ext[len(matched) - len(_DEFAULT) :]


def _hosts(host: str) -> dict[str, str]:
    """HOST2, HOST3, HOST4: each cut before the last dot of the one before; without a dot it repeats."""
    found = {}
    for number in (2, 3, 4):
        cut = host.rfind(".")
        host = host[:cut] if cut >= 0 else host
        found[f"HOST{number}"] = host
    return found


def _extensions(ext: str) -> dict[str, str]:
    """EXT, EXT2, EXT3, EXT4: each what follows the first dash of the one before; without a dash nothing."""
    found = {"EXT": ext}
    for number in (2, 3, 4):
        ext = ext.partition("-")[2]
        found[f"EXT{number}"] = ext
    return found


def _harmless(name: str, value: bytes) -> bytes:
    end = b""
    if name in _ENDS_WITH_NEWLINE:
        value, end = value.removesuffix(b"\n"), b"\n"
    value = value[:VALUE_MAX_OCTETS].translate(_TO_UNDERSCORE)
    return (b"_" + value if value.startswith(_SHELLS_OWN) else value) + end
