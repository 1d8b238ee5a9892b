"""A log that is long to scan: new mail does not wait for it, and what it holds is delivered all the same."""

import os
from pathlib import Path

from tests.harness import sink
from tests.harness.stack import Stack, running
from tests.harness.walk import mail
from tests.integration.conftest import house_of

FAR = "mx.far.example"
LONG = 200 * 1024 * 1024


def test_new_mail_goes_into_another_log_while_a_long_one_is_scanned(state: Path) -> None:
    with sink.running() as world:
        world.replies["RCPT"] = "450 4.2.1 busy"
        stack = Stack(
            state,
            environment={"TIME_SCALE": "0.002"},
            controls={"smtproutes": f".far.example:127.0.0.1:{world.port}\n"},
        )
        with running(stack):
            old = house_of(stack).send(mail("old"), f"friend@{FAR}")
            stack.said.wait(r"delivery \d+: deferral:.*busy")
        (log,) = (state / "spool" / "logs").iterdir()
        (segment, *_) = sorted(log.glob("*.seg"))
        os.truncate(segment, LONG)  # a hole: long by what it looks like, and as long to scan as before
        with running(stack):
            house = house_of(stack)
            new = house.send(mail("new"))
            stack.said.wait(rf"took log {log.name.split('.')[0]}")
            assert len(list((state / "spool" / "logs").iterdir())) == 2
            assert {one["id"] for one in stack.queued()} >= {old}
            world.replies["RCPT"] = "250 2.1.5 ok"
            house.wait_idle()
            assert house.copies(new)
            assert [b"Subject: old\r\n" in one.text for one in world.taken] == [True]
