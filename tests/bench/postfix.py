"""Postfix under test: unpacked, with configuration, queue and data of its own, on a loopback port.

Nothing outside the bench's folder changes. Postfix wants a user `postfix`, a group `postdrop` and a real local user in
the system's files; it gets copies of /etc/passwd and /etc/group that have them, in a mount namespace of its own.
"""

import os
from pathlib import Path

from tests.bench import namespace
from tests.bench.mailhost import DOMAIN, Family, free_port, wait_greeting
from tests.bench.namespace import Accounts
from tests.bench.package import Missing, Package

_QUEUES = (
    "active bounce corrupt defer deferred flush hold incoming maildrop private public saved trace".split()  # noqa: SIM905
)

# As Debian ships it, but for places, ports and what a lone host needs. Nothing is logged: there is no syslog in the
# namespace, which is in Postfix's favour.
_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = {root}/usr/sbin
daemon_directory = {root}/usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_LIBRARY_PATH
myhostname = {domain}
mydestination = {domain}
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
biff = no
home_mailbox = Maildir/
relayhost = [127.0.0.1]:{sink}
local_destination_concurrency_limit = {concurrency}
"""

_MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix n - n 60    1 pickup
cleanup   unix n - n -     0 cleanup
qmgr      unix n - n 300   1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n -     - trivial-rewrite
bounce    unix - - n -     0 bounce
defer     unix - - n -     0 bounce
trace     unix - - n -     0 bounce
verify    unix - - n -     1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n -     - proxymap
proxywrite unix - - n -    1 proxymap
smtp      unix - - n -     - smtp
relay     unix - - n -     - smtp
error     unix - - n -     - error
retry     unix - - n -     - error
local     unix - n n -     - local
anvil     unix - - n -     1 anvil
scache    unix - - n -     1 scache
"""


class Postfix:
    """A running Postfix with one destination concurrency limit of local(8)."""

    recipient = f"bench@{DOMAIN}"

    def __init__(self, folder: Path, package: Package, sink_port: int, concurrency: int) -> None:
        """Starts it; raises Missing when it does not come up."""
        self.name = f"postfix, limit {concurrency}"
        self.port = free_port()
        place = folder / f"postfix-{concurrency}"
        place.mkdir()
        accounts = Accounts(place)
        owner, drop = accounts.add_user("postfix"), accounts.add_group("postdrop")
        self.new = accounts.add_reader("bench")
        self.homes = accounts.add_crowd()
        accounts.write()
        _lay_out(place, owner, drop)
        facts = {"folder": place, "root": str(package.root).rstrip("/"), "domain": DOMAIN, "sink": sink_port}
        (place / "etc/main.cf").write_text(_MAIN_CF.format(**facts, concurrency=concurrency))
        (place / "etc/master.cf").write_text(_MASTER_CF.format(port=self.port))
        self._family = Family("postfix", folder / f"postfix-{concurrency}.log")
        master = [package.program("usr/lib/postfix/sbin/master"), "-c", str(place / "etc"), "-d"]
        self._family.start(namespace.command(accounts.mounts(), master), package.environment())
        try:
            wait_greeting(self._family, self.port)
        except Missing:
            self.stop()
            raise

    def processor_s(self) -> dict[str, float]:
        return self._family.processor_s()

    def stop(self) -> None:
        self._family.stop()


def _lay_out(place: Path, owner: int, drop: int) -> None:
    """The folders that postfix(1) makes at its first start, with their owners and modes."""
    (place / "etc").mkdir()
    (place / "queue/pid").mkdir(parents=True)
    (place / "data").mkdir(mode=0o700)
    os.chown(place / "data", owner, -1)
    for name in _QUEUES:
        queue = place / "queue" / name
        queue.mkdir(mode=0o700)
        os.chown(queue, owner, -1)
    os.chown(place / "queue/public", owner, drop)
    (place / "queue/public").chmod(0o710)
    os.chown(place / "queue/maildrop", owner, drop)
    (place / "queue/maildrop").chmod(0o730)
