"""Whether root's services can run under uids of their own: tried by running the interpreter as such a uid.

A checkout or a Python below a home that others may not enter is the usual reason why not.
"""

import os
import subprocess
import sys
from dataclasses import dataclass

from cli.places import CHECKOUT, Places
from cli.topology import BY_NAME

_TRY = "import os, sys, grpc, runtime.config; os.stat(os.path.join(sys.argv[1], 'run'))"
_TIMEOUT_S = 30.0
_UID = BY_NAME["smtpd"].uid


@dataclass(frozen=True, slots=True)
class Privileges:
    """`drops`: services get uids of their own. `warning`: why root's services stay root, with the remedy."""

    drops: bool
    warning: str = ""


class Attempt:
    """The interpreter, started as smtpd's uid; without root there is nothing to try. Ask `result` once."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            self._process = subprocess.Popen(
                (*launcher(_UID), sys.executable, "-c", _TRY, places.state),
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )

    def result(self) -> Privileges:
        """What became of it; waits for its end."""
        if self._process is None:
            return Privileges(drops=False)
        try:
            _, complaint = self._process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            complaint = f"no answer within {_TIMEOUT_S:g} s".encode()
        if self._process.returncode == 0:
            return Privileges(drops=True)
        said = complaint.decode("utf-8", "replace").strip().splitlines()
        why = said[-1] if said else "no message"
        return Privileges(
            drops=False,
            warning=f"warning: every service runs as root, because uid {_UID} cannot run {sys.executable} "
            f"in {CHECKOUT} with {self._places.state} ({why}): "
            "let others read and enter these (chmod o+rx), or run `up` as an ordinary user",
        )


def launcher(uid: int | None) -> tuple[str, ...]:
    """The command before a service's own: cli/launch.py, with the environment's site directories left out."""
    return (sys.executable, "-S", "-m", "cli.launch", "" if uid is None else str(uid), str(os.getpid()))
