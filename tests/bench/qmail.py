"""qmail under test, when it is installed: a copy of its folder, shown at /var/qmail in a mount namespace of its own.

notqmail and netqmail alike. tcpserver comes from Debian's ucspi-tcp, unpacked when it is not installed.
"""

import shutil
import subprocess
from pathlib import Path

from tests.bench import namespace, package
from tests.bench.mailhost import DOMAIN, Family, free_port, wait_greeting
from tests.bench.namespace import Accounts
from tests.bench.package import Missing

_HOME = Path("/var/qmail")
_NEEDED = ("bin/qmail-start", "bin/qmail-smtpd", "queue/lock/trigger")
_MESSAGES = ("bounce", "info", "intd", "local", "mess", "pid", "remote", "todo")
_CONCURRENCY = 20  # deliveries at a time; qmail's own default for local ones is 10
_LIMIT = 40  # connections; tcpserver's own default

# qmail-send first: it makes the queue ready. Both end when the first does.
_START = """\
/var/qmail/bin/qmail-start ./Maildir/ & sender=$!
"$1" -c {limit} -R -H -l {domain} -u "$2" -g "$3" 127.0.0.1 {port} /var/qmail/bin/qmail-smtpd & server=$!
trap 'kill $server $sender' TERM
wait $sender
wait
"""


class Qmail:
    """A running qmail."""

    name = "qmail"
    recipient = f"bench@{DOMAIN}"

    def __init__(self, folder: Path, cache: Path, sink_port: int) -> None:
        """Starts it; raises Missing when it is not installed or does not come up."""
        if not all((_HOME / path).exists() for path in _NEEDED):
            raise Missing(f"it is not installed at {_HOME}")
        tcpserver = package.find("ucspi-tcp", "usr/bin/tcpserver", cache)
        self.port = free_port()
        place = folder / "qmail"
        place.mkdir()
        accounts = Accounts(place)
        self.new = accounts.add_reader("bench")
        self.homes = accounts.add_crowd()
        daemon, group = accounts.add_user("qmaild"), accounts.add_group("nofiles")
        accounts.write()
        copy = place / "var"
        _copy(copy, sink_port)
        script = _START.format(limit=_LIMIT, domain=DOMAIN, port=self.port)
        program = ["sh", "-c", script, "qmail", tcpserver.program("usr/bin/tcpserver"), str(daemon), str(group)]
        self._family = Family("qmail", folder / "qmail.log")
        environment = {"PATH": f"{_HOME}/bin:/usr/bin:/bin", "RELAYCLIENT": ""}
        self._family.start(namespace.command({**accounts.mounts(), copy: _HOME}, program), environment)
        try:
            wait_greeting(self._family, self.port)
        except Missing:
            self.stop()
            raise

    def processor_s(self) -> dict[str, float]:
        return self._family.processor_s()

    def stop(self) -> None:
        self._family.stop()


def _copy(copy: Path, sink_port: int) -> None:
    """The installation with an empty queue and controls of our own."""
    # cp, because owners, modes and the FIFO in the queue count.
    done = subprocess.run(["cp", "--archive", str(_HOME), str(copy)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"it cannot be copied: {done.stderr.strip()[-200:]}")
    for name in _MESSAGES:
        for path in (copy / "queue" / name).rglob("*"):
            if path.is_file():
                path.unlink()
    shutil.rmtree(copy / "control", ignore_errors=True)
    (copy / "control").mkdir()
    for file, line in (
        ("me", DOMAIN),
        ("locals", DOMAIN),
        ("rcpthosts", DOMAIN),
        ("smtproutes", f":127.0.0.1:{sink_port}"),
        *((name, str(_CONCURRENCY)) for name in ("concurrencylocal", "concurrencyremote")),
    ):
        (copy / "control" / file).write_text(f"{line}\n")
