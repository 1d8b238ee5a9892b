"""What the commands about the queue print, and which messages they mean, from values."""

import argparse
import json
from collections.abc import AsyncIterator

import pytest

from cli import actions, backlog, escape, particulars, qread, queue_commands, queued, replicas, selection
from cli.admin import CHANGED_MAX, Action, Counts, Stats, Worker
from cli.queued import Queued, QueuedRecipient
from cli.refusal import Refusal
from cli.selection import Selection
from mail.ids import make_id

ONE = make_id(1_795_361_237_000, b"0123456789")
TWO = make_id(1_795_361_237_001, b"0123456789")
ARRIVED = 1_793_547_907.0  # the first of a month


def a_recipient(address: str, state: str = "waiting", channel: str = "remote", **fields: object) -> QueuedRecipient:
    whole = QueuedRecipient(
        address=address, channel=channel, state=state, attempts=0, next_attempt=None, why="", reason=""
    )
    whole.update(fields)  # type: ignore[typeddict-item]
    return whole


def a_message(*recipients: QueuedRecipient, sender: str = "s@x.test", held_by: str | None = None) -> Queued:
    held_since = ARRIVED + 60 if held_by else None
    return Queued(
        id=ONE,
        log="3fa91c02",
        sender=sender,
        size=120,
        arrived=ARRIVED,
        recipients=list(recipients),
        held_by=held_by,
        held_since=held_since,
    )


WAITS = a_recipient("v@e.test", attempts=2, next_attempt=ARRIVED + 63.5, why="due at noon; last time: Bad\tgreeting.")
DONE = a_recipient("u@d.test", "done", "local", attempts=1)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    queue_commands.add(parser)
    return parser.parse_args(words)


# -- lines ------------------------------------------------------------------------------------------------------------


def test_a_queued_message_is_shown_as_qmail_qread_shows_it_and_why_it_waits() -> None:
    assert queued.lines(a_message(DONE, WAITS)) == [
        f"1 Nov 2026 15:45:07 GMT  #{ONE}  120  <s@x.test> ",
        "  done\tlocal\tu@d.test",
        "\tremote\tv@e.test",
        "\t\t2 tries: due at noon; last time: Bad_greeting.",
    ]


def test_who_holds_a_message_is_said_once() -> None:
    held = a_recipient("v@e.test", "held", why="held by root")
    assert queued.lines(a_message(held, held, held_by="ann as root"))[1:] == [
        "\t\theld by ann as root since 1 Nov 2026 15:46:07 GMT",
        "\tremote\tv@e.test",
        "\tremote\tv@e.test",
    ]


# What the qmail-qread of notqmail 1.09 printed for a queue with these two messages, which were its numbers 23 and 24.
QREAD = b"""\
1 Nov 2026 15:45:07 GMT  #23  120  <___[2J@x.test>  bouncing
  done\tlocal\tu@d.test
  done\tremote\tnobody@e.test
\tremote\tv__@e.test
22 Nov 2026 15:27:17 GMT  #24  4096  <>\x20
\tlocal\tann-info@virtual.example
"""


def test_qmail_qread_prints_what_qmail_s_prints() -> None:
    failed = a_recipient("nobody@e.test", "failed", attempts=1)
    one = a_message(failed, a_recipient("v\xe9@e.test"), DONE, sender="\xe9\x1b[2J@x.test")
    two = a_message(a_recipient("ann-info@virtual.example", channel="local"), sender="")
    two |= {"id": TWO, "size": 4_096, "arrived": 1_795_361_237.9}
    printed = b"\n".join([*qread.lines(one), *qread.lines(two)]) + b"\n"
    assert printed.replace(ONE.encode(), b"23").replace(TWO.encode(), b"24") == QREAD


def test_all_that_is_known_is_shown() -> None:
    recipient = a_recipient(
        "v@e.test", attempts=1, why="because", report="first line\nsecond \x1b line\n", given="V@E.test"
    )
    shown = "\n".join(queued.particulars(a_message(recipient) | {"uid": 7, "envid": "e+1", "parent": TWO}))
    for expected in (f"caused by  {TWO}", "envid      e+1", "from uid   7", "(given as V@E.test)", "attempts     1"):
        assert expected in shown
    assert "last report  first line\n               second _ line" in shown
    assert "\x1b" not in shown


# -- what goes to a terminal ------------------------------------------------------------------------------------------


def test_an_object_is_one_line_of_printable_ascii_and_reads_back() -> None:
    value = {"sender": "\x1b]0;evil\x07\x7f\x9b\u202e\xe9\n"}
    line = escape.json_line(value)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == value


def test_a_message_to_a_terminal_keeps_its_lines_and_loses_its_commands() -> None:
    terminal = escape.Terminal()
    text = "Subject: caf\xe9\x1b[2J\r\n\tx\u202e\n".encode() + b"\xff"
    shown = "".join(terminal.show(text[at : at + 1]) for at in range(len(text))) + terminal.show(b"", last=True)
    assert shown == "Subject: caf\xe9_[2J_\n\tx_\n\\xff"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("text", "header", "body"),
    [
        (b"A: b\nC: d\n\nbody\n\nmore\n", b"A: b\nC: d\n", b"body\n\nmore\n"),
        (b"\nonly body\n", b"", b"only body\n"),
        (b"A: only header\n", b"A: only header\n", b""),
        (b"A: b\n\n", b"A: b\n", b""),
        (b"", b"", b""),
    ],
)
async def test_a_message_in_pieces_has_a_header_and_a_body(text: bytes, header: bytes, body: bytes, size: int) -> None:
    async def part(header: bool, body: bool) -> bytes:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(text), size):
                yield text[start : start + size]

        return b"".join([piece async for piece in particulars.parts(pieces(), particulars.Wish(header, body, False))])

    assert await part(True, False) == header
    assert await part(False, True) == body
    assert await part(True, True) == text


# -- which messages ---------------------------------------------------------------------------------------------------


def test_filters_are_read() -> None:
    found = selection.of(
        parsed("list", "--sender", "<>", "--domain", "*.x.test", "--older", "2h", "--younger", "3d", "--state", "held")
    )
    assert found == Selection(sender="", domain="*.x.test", older_s=7_200, younger_s=259_200, states=("held",))


def test_a_state_is_a_filter_and_anything_else_the_state_directory() -> None:
    options = parsed("list", "--state", "waiting,held", "--state", "/srv/stack", "--state", "failed")
    assert options.state == "/srv/stack"
    assert selection.of(options).states == ("waiting", "held", "failed")
    assert parsed("list", "--state", "./held").state == "./held"


def test_an_id_may_be_pasted_from_qmail_qread() -> None:
    assert selection.of(parsed("list", f"#{ONE}", ONE)).ids == (ONE,)


@pytest.mark.parametrize("words", [("nonsense",), ("--older", "soon"), ("--older", "0"), ("--younger", "-1h")])
def test_what_makes_no_sense_is_a_mistake_of_usage(words: tuple[str, ...]) -> None:
    with pytest.raises((Refusal, SystemExit)) as refused:
        selection.of(parsed("list", *words))
    assert getattr(refused.value, "status", getattr(refused.value, "code", 0)) == 2


def test_what_is_asked_again_is_what_may_have_changed() -> None:
    """The age that was asked for was the age at the question; a state may have changed since."""
    found = Selection(sender="a*", domain="x.test", younger_s=60, states=("held",))
    assert found.still() == Selection(domain="x.test", states=("held",))


# -- actions ----------------------------------------------------------------------------------------------------------


def test_a_preview_says_how_many_and_which_and_what_it_means() -> None:
    picked = actions.Picked()
    for _ in range(12):
        picked.add(a_message(DONE, WAITS))
    shown = actions.preview(actions.Wish(Action.REMOVE, Selection(sender="s*")), picked, [])
    assert shown[0] == "remove: 12 messages, 1440 octets; recipients: waiting 12, done 12"
    assert shown[1] == f"  1 Nov 2026 15:45:07 GMT  #{ONE}  120  <s@x.test>  to u@d.test and 1 more"
    assert shown[11:] == [
        "  and 2 more",
        "They end without a bounce, for ever; one that is being delivered is left alone.",
    ]


def test_a_second_copy_is_announced_before_it_is_made() -> None:
    picked = actions.Picked()
    picked.add(a_message(a_recipient("v@e.test", reason="reattach")))
    for force, said in ((True, "may be delivered twice"), (False, "--force")):
        wish = actions.Wish(Action.RETRY, Selection(ids=(ONE,)), force=force)
        assert said in actions.preview(wish, picked, [])[-1]


def test_ids_go_out_in_batches_and_none_is_lost() -> None:
    picked = actions.Picked()
    ids = [make_id(1_795_361_237_000 + number, b"0123456789") for number in range(2 * CHANGED_MAX + 1)]
    for message in ids:
        picked.add(a_message() | {"id": message})
    batches = list(picked.batches())
    assert [len(batch) for batch in batches] == [CHANGED_MAX, CHANGED_MAX, 1]
    assert [message for batch in batches for message in batch] == ids


def test_the_log_says_who_stands_behind_sudo() -> None:
    plain = actions.who({})
    assert plain
    assert actions.who({"SUDO_USER": "ann"}) == f"ann as {plain}"


# -- figures ----------------------------------------------------------------------------------------------------------


def some_stats(replica: str, count: int, oldest: float) -> Stats:
    counts = Counts(
        messages=count,
        octets=10 * count,
        oldest=ONE,
        oldest_arrived=oldest,
        channels={"remote": count},
        states={"waiting": count},
        reasons={"schedule": count},
        destinations={"x.test": count, "y.test": 1, "": 5},
    )
    workers = (Worker("remote-0/a", "remote", 20, 3, False),)
    return Stats(replica, count, 3, (f"log of {replica}",), ("log of queue-0", "log of queue-1"), workers, counts)


def test_the_sum_of_replicas_has_the_oldest_of_all() -> None:
    everything = backlog.total([some_stats("queue-0", 3, 100.0), some_stats("queue-1", 4, 50.0)])
    assert everything.counts
    assert (everything.messages, everything.counts.oldest_arrived) == (7, 50.0)
    assert everything.counts.destinations == {"x.test": 7, "y.test": 2, "": 10}
    assert len(everything.workers) == len(everything.logs) == 2


def test_a_log_for_which_nobody_answers_is_named() -> None:
    """It may hold anything: an empty answer of the others is not the end of the matter."""
    one, other = some_stats("queue-0", 0, 100.0), some_stats("queue-1", 0, 100.0)
    assert replicas.unserved([one, other]) == []
    [missing] = replicas.unserved([one])
    assert "log of queue-1" in str(missing)


def test_figures_are_shown_with_the_largest_destinations_first() -> None:
    assert backlog.lines(some_stats("queue-0", 3, 100.0), 1, 100.0 + 7_300) == [
        "queue-0: 3 messages, 30 octets",
        f"  oldest      {ONE}, 2 h old",
        "  logs        log of queue-0",
        "  workers     remote-0/a remote 3/20",
        "  by channel  remote 3",
        "  by state    waiting 3",
        "  waits for   schedule 3",
        "  to                3 x.test",
        "                    6 elsewhere",
    ]


def test_figures_for_programs_are_one_object() -> None:
    value = json.loads(escape.json_line(backlog.as_json(some_stats("queue-0", 3, 100.0), 1)))
    assert value["workers"] == [
        {"worker": "remote-0/a", "channel": "remote", "slots": 20, "busy": 3, "draining": False}
    ]
    assert value["destinations"] == [{"destination": "x.test", "recipients": 3}]
