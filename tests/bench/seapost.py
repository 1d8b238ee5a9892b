"""Seapost under test: `bin/seapost up` on a state directory of its own, with everything as shipped."""

import json
import os
import re
import time
from pathlib import Path

from tests.bench import machine
from tests.bench.mailhost import CROWD, DOMAIN, ROOT, STARTS_WITHIN_S, Family, reader_name
from tests.bench.package import Missing

_FIRST_UID = 20_000  # of the crowd
_READY = re.compile(r"^ready smtp=127\.0\.0\.1:(\d+) ", re.MULTILINE)


class Seapost:
    """The running stack; its parts are the services, `up` that looks after them, and Redis."""

    name = "seapost"
    recipient = f"demo@{DOMAIN}"

    def __init__(self, folder: Path, sink_port: int) -> None:
        """Starts it; raises Missing when it is not ready in time."""
        self._state = folder / "seapost"
        self.homes = self._state / "homes"
        self.new = self.homes / "demo/Maildir/new"
        control = self._state / "control"
        control.mkdir(parents=True)
        (control / "smtproutes").write_text(f":[127.0.0.1]:{sink_port}\n")
        self._family = Family("seapost", folder / "seapost.log")
        environment = {**os.environ, "MAIL_NAME": DOMAIN, "SMTP_PORT": "0", "POP3_PORT": "0", "METRICS_PORT": "0"}
        command = [str(ROOT / "bin/seapost"), "up", "--state", str(self._state)]
        self._family.start(command, environment)
        try:
            self.port = self._ready()
            self._invite()
        except Missing:
            self.stop()
            raise

    def _ready(self) -> int:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            found = _READY.search(self._family.said())
            if found:
                return int(found[1])
            self._family.check()
            time.sleep(0.1)
        raise Missing(f"seapost is not ready within {STARTS_WITHIN_S} s: {self._family.said()[-300:]}")

    def _invite(self) -> None:
        """Makes the crowd's accounts, as useradd(8) does: the file is replaced."""
        passwd = self._state / "accounts/passwd"
        lines = [passwd.read_text()]
        for number in range(CROWD):
            name, uid = reader_name(number), _FIRST_UID + number
            home = self.homes / name
            home.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(home, uid, uid)
            lines.append(f"{name}:x:{uid}:{uid}::{home}:/bin/false\n")
        fresh = passwd.with_name("passwd+")
        fresh.write_text("".join(lines))
        fresh.rename(passwd)

    def processor_s(self) -> dict[str, float]:
        services = {
            path.stem.rpartition("-")[0]: int(json.loads(path.read_text())["pid"])
            for path in (self._state / "run").glob("*.json")
        }
        return machine.family_s({**services, "up": self._family.pid})

    def stop(self) -> None:
        self._family.stop()
