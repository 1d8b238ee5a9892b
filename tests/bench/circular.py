"""A client that sends messages to many recipients each, one after another over one connection: all that it costs is the
transfer, so that what is measured is the delivery. smtp-source cannot name recipients.

    python -m tests.bench.circular PORT FIRST RECIPIENTS
"""

import smtplib
import sys

from tests.bench.mailhost import PER_MESSAGE, SENDER, reader

_PATIENCE_S = 60.0  # for a reply: a server may look each of a hundred recipients up first
_LINE = "x" * 70 + "\r\n"
_BODY = "Subject: to everybody\r\n\r\n" + _LINE * 57  # 4 KiB


def send(port: int, first: int, recipients: int) -> None:
    """Messages to as many readers, from the one with that number on. smtplib.SMTPException when one is refused."""
    with smtplib.SMTP("127.0.0.1", port, timeout=_PATIENCE_S) as client:
        for start in range(first, first + recipients, PER_MESSAGE):
            end = min(start + PER_MESSAGE, first + recipients)
            refused = client.sendmail(SENDER, [reader(number) for number in range(start, end)], _BODY)
            if refused:
                raise smtplib.SMTPRecipientsRefused(refused)


if __name__ == "__main__":
    send(*map(int, sys.argv[1:4]))
