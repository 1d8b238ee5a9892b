"""qmail-inject, sendmail and mailsubj where no case of a compiled qmail can show it: bounds, and what is not there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from programs.inject import HEADER_MAX_OCTETS
from programs.smtp import COMMAND_MAX_OCTETS
from tests.harness.warm import Warm

BIN = Path(__file__).resolve().parents[3] / "bin"


class Caller:
    """Calls programs with a control directory that a test may fill."""

    def __init__(self, warm: Warm, folder: Path) -> None:
        self._warm = warm
        self._folder = folder
        self.control = folder / "control"
        self.control.mkdir()

    def __call__(self, *words: str, message: bytes = b"", **environment: str) -> tuple[int, bytes, bytes]:
        named = {"SEAPOST_CONTROL": str(self.control), "USER": "ann", "QMAILQUEUE": "/bin/false", **environment}
        source = self._folder / "message"
        source.write_bytes(message)
        return self._warm.call(words, named, self._folder, source)


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Caller]:
    with Warm(tmp_path) as warm:
        yield Caller(warm, tmp_path)


def test_a_host_without_names_has_the_names_of_the_files(call: Caller) -> None:
    status, out, _ = call("qmail-inject", "-n", message=b"To: joe@h+\n")
    assert status == 0
    assert b"\nFrom: ann@defaulthost.defaultdomain\nTo: joe@h.plusdomain\n" in out
    assert b".qmail@idhost>\n" in out


def test_me_stands_for_every_name_that_is_missing(call: Caller) -> None:
    (call.control / "me").write_text("me.test  \nnot me\n")
    (call.control / "plusdomain").write_text("plus.test\n")
    _, out, _ = call("qmail-inject", "-n", message=b"To: joe@h, jim@h+\n")
    assert b"\nFrom: ann@me.test\nTo: joe@h.me.test, jim@h.plus.test\n" in out
    assert b".qmail@me.test>\n" in out


def test_a_name_that_cannot_be_read_is_a_read_error(call: Caller) -> None:
    (call.control / "defaulthost").mkdir()
    assert call("qmail-inject", "-n") == (111, b"", b"qmail-inject: fatal: read error\n")


def test_a_message_that_cannot_be_read_is_a_read_error(tmp_path: Path) -> None:
    with (tmp_path / "message").open("wb") as written:
        ran = subprocess.run([BIN / "qmail-inject", "-n"], stdin=written, capture_output=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (111, b"qmail-inject: fatal: read error\n")


def test_a_header_has_a_bound_and_a_body_has_none(call: Caller) -> None:
    field = b"X: " + b"x" * (HEADER_MAX_OCTETS - 4) + b"\n"
    status, out, _ = call("qmail-inject", "-n", message=field + b"\n" + b"y" * (HEADER_MAX_OCTETS + 7))
    assert status == 0
    assert out.endswith(field + b"\n" + b"y" * (HEADER_MAX_OCTETS + 7) + b"\n")
    status, out, err = call("qmail-inject", "-n", message=b"Y: z\n" + field)
    assert (status, out) == (100, b"")
    assert err == b"qmail-inject: fatal: header of more than 8388608 octets\n"


def test_nobody_from_the_network_relays_over_sendmail(call: Caller) -> None:
    (call.control / "me").write_text("me.test\n")
    status, out, err = call("sendmail", "-bs", message=b"QUIT\r\n", PROTO="TCP", TCPREMOTEIP="192.0.2.1")
    assert (status, out) == (111, b"")
    assert err.startswith(b"sendmail: fatal: unable to run qmail-smtpd")


def test_a_conversation_needs_a_name(call: Caller) -> None:
    assert call("sendmail", "-bs") == (1, b"421 unable to read controls (#4.3.0)\r\n", b"")


def test_a_command_has_a_bound(call: Caller) -> None:
    (call.control / "me").write_text("me.test\n")
    _, out, _ = call("sendmail", "-bs", message=b"NOOP " + b"x" * (COMMAND_MAX_OCTETS - 7) + b"\r\nQUIT\r\n")
    assert out.endswith(b"\r\n250 ok\r\n221 me.test\r\n")
    status, out, _ = call("sendmail", "-bs", message=b"NOOP " + b"x" * COMMAND_MAX_OCTETS + b"\r\nQUIT\r\n")
    assert (status, out) == (1, b"220 me.test ESMTP\r\n421 out of memory (#4.3.0)\r\n")


def test_the_rest_of_a_message_that_nobody_takes_is_no_command(call: Caller) -> None:
    """The queue's program ends before it has read anything."""
    (call.control / "me").write_text("me.test\n")
    message = b"MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n" + b"QUIT\r\n" * 100_000 + b".\r\nNOOP\r\nQUIT\r\n"
    status, out, _ = call("sendmail", "-bs", message=message)
    assert status == 0
    assert out.endswith(b"354 go ahead\r\n451 qq temporary problem (#4.3.0)\r\n250 ok\r\n221 me.test\r\n")


def test_badmailfrom_counts_in_a_conversation(call: Caller) -> None:
    (call.control / "me").write_text("me.test\n")
    (call.control / "badmailfrom").write_text("# nobody\nBad@x.test\n@spam.test\n")
    refused = b"553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)\r\n"
    for sender, reply in ((b"bad@X.test", refused), (b"a@SPAM.test", refused), (b"good@x.test", b"250 ok\r\n")):
        message = b"MAIL FROM:<%b>\r\nRCPT TO:<a@b>\r\nQUIT\r\n" % sender
        assert reply + b"221" in call("sendmail", "-bs", message=message)[1]


def test_mailsubj_needs_a_subject(call: Caller) -> None:
    assert call("mailsubj") == (100, b"", b"mailsubj: usage: mailsubj subject recipient ...\n")
