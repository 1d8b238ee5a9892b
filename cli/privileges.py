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


@dataclass(frozen=True, slots=True)
class Privileges:
    """`drops`: services get uids of their own. `warning`: why root's services stay root, with the remedy."""

    drops: bool
    warning: str = ""


def find(places: Places) -> Privileges:
    """Tries as smtpd's uid; without root there is nothing to try."""
    if os.geteuid() != 0:
        return Privileges(drops=False)
    uid = BY_NAME["smtpd"].uid
    command = (*launcher(uid), sys.executable, "-c", _TRY, places.state)
    try:
        done = subprocess.run(
            command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode == 0:
            return Privileges(drops=True)
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    except (OSError, subprocess.TimeoutExpired) as error:
        said = [str(error)]
    why = said[-1] if said else "no message"
    return Privileges(
        drops=False,
        warning=f"warning: every service runs as root, because uid {uid} cannot run {sys.executable} in {CHECKOUT} "
        f"with {places.state} ({why}): let others read and enter these (chmod o+rx), or run `up` as an ordinary user",
    )


def launcher(uid: int | None) -> tuple[str, ...]:
    """The command before a service's own: cli/launch.py, with the environment's site directories left out."""
    return (sys.executable, "-S", "-m", "cli.launch", "" if uid is None else str(uid), str(os.getpid()))
