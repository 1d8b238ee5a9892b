"""What a first start tells: the account that was made, and three lines to paste that send and fetch a message.

The lines need a python3 with its standard library, nothing of ours. Text from values; asks nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cli.ports import reachable
from runtime.config import Address


@dataclass(frozen=True, slots=True)
class Welcome:
    """What there is to tell: the first account, and the python3 of whoever pastes."""

    mail_name: str
    password: str
    kept_in: str
    python: str


def lines(told: Welcome, listen: Mapping[str, Address]) -> list[str]:
    """The lines; only who has both SMTP and POP3 can try them."""
    address = f"demo@{told.mail_name}"
    made = f"up: made the account demo ({address}), password {told.password}, kept in {told.kept_in}"
    if "smtp" not in listen or "pop3" not in listen:
        return [made]
    smtp, pop3 = reachable(listen["smtp"]), reachable(listen["pop3"])
    send = (
        f'import smtplib; s = smtplib.SMTP("{smtp.host}", {smtp.port}, "localhost"); '
        f's.sendmail("{address}", ["{address}"], "Subject: first\\n\\nIt works.\\n"); s.quit()'
    )
    fetch = (
        f'import poplib; p = poplib.POP3("{pop3.host}", {pop3.port}); p.user("demo"); p.pass_("{told.password}"); '
        'n = p.stat()[0]; print(n, "in the mailbox, the last:"); '
        "print(*(l.decode() for l in p.retr(n)[1]), sep=chr(10)); p.quit()"
    )
    return [
        made,
        "up: three lines to paste into another shell: send a message, give it a moment, fetch it",
        f"{told.python} -c '{send}'",
        "sleep 1",
        f"{told.python} -c '{fetch}'",
    ]
