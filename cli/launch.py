"""`python -m cli.launch UID PARENT PROGRAM ARGUMENT…`: becomes a service of `up`, then that program.

Runs between fork and exec, where `up` itself, which has threads of gRPC, must not run code of its own. UID "" keeps
the user. The program ends with SIGTERM when `up` (pid PARENT) dies, and may open as many files as the machine allows.
"""

import os
import resource
import signal
import sys

from runtime import privilege


def launch(uid: str, parent: int, command: list[str]) -> None:
    """Replaces this process; does not return."""
    if uid:
        privilege.become(int(uid), int(uid))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    privilege.end_with_parent(parent, signal.SIGTERM)
    os.execvp(command[0], command)


if __name__ == "__main__":
    launch(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
