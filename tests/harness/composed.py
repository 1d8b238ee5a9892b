"""The composed stack under a project name and ports of its own, with one account and a mail server elsewhere.

Knows docker compose, the account files and where a container's output goes; what is walked through it, the tests know.
"""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from runtime.passwords import make_hash
from tests.harness.walk import House

ROOT = Path(__file__).resolve().parents[2]
UP_S = 420  # a first build fetches the packages
ASK_S = 90
ACCOUNT, PASSWORD = "demo", "correct horse battery staple"
DOMAIN = "mail.example.test"  # what the stack calls itself when MAIL_NAME is not set
ELSEWHERE = "elsewhere.example"

# A mail server of the world, on the network of the services: aiosmtpd prints what it gets.
_WORLD = """
services:
  elsewhere:
    image: seapost/smtpd:${SEAPOST_TAG}
    pull_policy: never
    command: [python, -u, -m, aiosmtpd, -n, -l, "0.0.0.0:2525", -c, aiosmtpd.handlers.Debugging, stdout]
    depends_on: {smtpd: {condition: service_healthy}}
    healthcheck: {test: [CMD, "true"], interval: 1s} # disabled, --wait of Compose 2.26 gives up
    networks: [mail]
"""


@dataclass(slots=True)
class ComposedStack:
    """docker-compose.yml with its accounts, homes and control files in `directory`."""

    docker: str
    directory: Path
    smtp_port: int
    pop3_port: int
    project: str = field(init=False)

    def __post_init__(self) -> None:
        self.project = f"seapost-test-{os.getpid()}"

    def prepare(self) -> None:
        """Makes one account, its home, a route to the mail server elsewhere, and lets the test's address relay."""
        uid = 7801 if os.geteuid() == 0 else os.getuid()
        accounts, home, control = (self.directory / name for name in ("accounts", f"homes/{ACCOUNT}", "control"))
        for path in (accounts, home, control):
            path.mkdir(parents=True)
        for path in (self.directory, *self.directory.parents[:2]):  # pytest's folders are closed to other uids
            path.chmod(path.stat().st_mode | 0o011)
        if os.geteuid() == 0:
            os.chown(home, uid, uid)
        (accounts / "passwd").write_text(f"{ACCOUNT}:x:{uid}:{uid}::/home/{ACCOUNT}:/bin/sh\n")
        (accounts / "shadow").write_text(f"{ACCOUNT}:{make_hash(PASSWORD)}:::::::\n")
        (accounts / "group").write_text(f"{ACCOUNT}:x:{uid}:\n")
        (control / "smtproutes").write_text(f"{ELSEWHERE}:elsewhere:2525\n")
        (control / "tcp.smtp").write_text(':allow,RELAYCLIENT=""\n')
        (self.directory / "world.yml").write_text(_WORLD)

    def house(self) -> House:
        """What a check needs to know of it."""
        return House(
            smtp_port=self.smtp_port,
            pop3_port=self.pop3_port,
            account=ACCOUNT,
            password=PASSWORD,
            domain=DOMAIN,
            new_mail=self.directory / "homes" / ACCOUNT / "Maildir" / "new",
            seapost=self.seapost,
        )

    def compose(self, *words: str, within_s: float = ASK_S) -> str:
        """What `docker compose` with these words prints; AssertionError with all of it when it fails."""
        files = ("-f", str(ROOT / "docker-compose.yml"), "-f", str(self.directory / "world.yml"))
        done = subprocess.run(
            [self.docker, "compose", "-p", self.project, *files, *words],
            cwd=ROOT,
            env={**os.environ, **self._settings()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within_s,
            check=False,
        )
        assert done.returncode == 0, f"docker compose {' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def up(self, *words: str) -> None:
        """Returns when everything is healthy; AssertionError with the end of the logs when it is not."""
        try:
            self.compose("up", "--detach", "--wait", *words, within_s=UP_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.compose('ps', '--all')}\n{self.logs()}") from None

    def seapost(self, *words: str) -> str:
        """What the operator's command prints, run in the queue's container."""
        return self.compose("exec", "-T", "queue", "seapost", *words)

    def logs(self, *services: str) -> str:
        return self.compose("logs", "--no-color", "--no-log-prefix", "--tail", "300", *services)

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def _settings(self) -> dict[str, str]:
        return {
            "SEAPOST_TAG": "test",
            "BIND": "127.0.0.1",
            "SMTP_PORT": str(self.smtp_port),
            "POP3_PORT": str(self.pop3_port),
            "ACCOUNTS_DIR": str(self.directory / "accounts"),
            "HOMES_DIR": str(self.directory / "homes"),
            "SUBMIT_DIR": str(self.directory / "submit"),
            "CONTROL_DIR": str(self.directory / "control"),
            "HEALTH_INTERVAL": "2s",
            "MAIL_NAME": "",
        }
