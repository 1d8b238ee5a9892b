"""The whole service: a real port, a real spawner, real Maildirs, and poplib or curl for a client."""

import contextlib
import os
import poplib
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from services.pop3.session import DEFAULT_LIMITS
from tests.harness import pop3_dialogues
from tests.harness.pop3_house import PASSWORD, ROOT, TIMEOUT_S, House, hang_up, until_closed


def kept_lines(client: poplib.POP3, number: int) -> list[bytes]:
    return list(client.retr(number)[1])


def test_a_person_reads_deletes_and_leaves(house: House) -> None:
    ann = house.account()
    ann.put("1700000001.a.host", b"Subject: one\n\n.dot\nlast line", mtime=1)
    ann.put("1700000002.b.host", b"Subject: two\n\n", mtime=2)
    client = house.login(ann)
    assert client.stat() == (2, 33 + 16)
    assert client.list()[1] == [b"1 33", b"2 16"]
    assert client.uidl()[1] == [b"1 1700000001.a.host", b"2 1700000002.b.host"]
    assert client.retr(1)[1] == [b"Subject: one", b"", b".dot", b"last line"]
    assert client.top(2, 0)[1] == [b"Subject: two", b""]
    client.dele(1)
    client.quit()
    assert ann.files() == {"cur/1700000002.b.host:2,"}
    ended = house.next_event("logout", ann)
    assert (ended["retrieved"], ended["deleted"]) == (1, 1)


@pytest.mark.parametrize("path", pop3_dialogues.DIALOGUES, ids=lambda path: path.stem)
@pytest.mark.parametrize("pieces", ["by line", "at once", "single octets"])
def test_a_dialogue_goes_over_the_port_as_written(house: House, path: Path, pieces: str) -> None:
    ann = house.account()
    dialogue = pop3_dialogues.read(path, ann.name, ann.password)
    for number, (name, text) in enumerate(dialogue.messages, 1):
        ann.put(name, text, mtime=number)
    whole = b"".join(dialogue.client)
    cuts = {"by line": dialogue.client, "at once": [whole], "single octets": [bytes([one]) for one in whole]}
    with house.raw() as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in cuts[pieces]:
                line.sendall(piece)
        assert not dialogue.differs(until_closed(line))


def test_the_second_session_is_refused_and_the_first_goes_on(house: House) -> None:
    ann = house.account()
    ann.put("a", b"text\n")
    first = house.login(ann)
    second = house.connect()
    second.user(ann.name)
    with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
        second.pass_(ann.password)
    assert first.stat() == (1, 6)
    first.quit()
    second.user(ann.name)
    second.pass_(ann.password)
    second.quit()


def test_a_client_whose_connection_broke_gets_in_again_at_once(house: House) -> None:
    ann = house.account()
    ann.put("a", b"text\n")
    for _ in range(5):
        client = house.login(ann)
        client.dele(1)
        hang_up(client)
    assert ann.files() == {"new/a"}


def test_a_missing_maildir_is_made_at_login(house: House) -> None:
    ann = house.account()
    client = house.login(ann)
    assert client.stat() == (0, 0)
    client.quit()
    found = ann.maildir.stat()
    assert found.st_mode & 0o777 == 0o700
    assert not ROOT or (found.st_uid, found.st_gid) == (ann.uid, ann.uid)


def test_a_message_that_goes_meanwhile_is_refused_and_the_session_lives(house: House) -> None:
    ann = house.account()
    gone = ann.put("a", b"one\n", mtime=1)
    ann.put("b", b"two\n", mtime=2)
    client = house.login(ann)
    gone.unlink()
    with pytest.raises(poplib.error_proto, match="unable to open that message"):
        client.retr(1)
    assert kept_lines(client, 2) == [b"two"]
    client.dele(1)
    assert client.quit() == b"+OK "
    assert ann.files() == {"cur/b:2,"}


def test_a_long_message_arrives_whole_at_a_slow_reader(house: House) -> None:
    ann = house.account()
    text = b"".join(b".line %d\n" % number for number in range(400_000))
    ann.put("a", text)
    client = house.login(ann)
    _, lines, octets = client.retr(1)
    assert b"\n".join(lines) + b"\n" == text
    assert octets == len(text) + 400_000
    assert client.stat() == (1, octets)
    client.quit()


def test_clients_that_stall_or_idle_are_cut_off_and_lose_nothing(own_house: House) -> None:
    """300 s are 3 s here, and ten minutes 6 s; octets that make no command do not count."""
    own_house.start(TIME_SCALE="0.01")
    staller, idler = own_house.account(), own_house.account()
    staller.put("a", b"x" * 40_000_000)
    idler.put("a", b"text\n")
    with own_house.raw() as stalls, own_house.raw() as idles:
        stalls.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stalls.sendall(b"USER %s\r\nPASS %s\r\nRETR 1\r\n" % (staller.name.encode(), PASSWORD.encode()))
        idles.sendall(b"USER %s\r\nPASS %s\r\nDELE 1\r\nNOO" % (idler.name.encode(), PASSWORD.encode()))
        assert until_closed(idles).split(b"\r\n")[1:] == [b"+OK ", b"+OK ", b"+OK ", b""]
        ended = {
            str(event["user"]): event for event in (own_house.next_event("logout"), own_house.next_event("logout"))
        }
    assert ended[staller.name]["retrieved"] == 0
    assert ended[idler.name]["deleted"] == 0
    assert idler.files() == {"new/a"}


def test_one_address_has_a_limit_of_connections(own_house: House) -> None:
    own_house.start(TIME_SCALE="1")
    with contextlib.ExitStack() as lines:
        for _ in range(DEFAULT_LIMITS.connections_per_ip):
            line = lines.enter_context(own_house.raw())
            assert line.recv(1_000).startswith(b"+OK <")
        with own_house.raw() as one_more:
            assert until_closed(one_more) == b"-ERR [SYS/TEMP] too many connections\r\n"
        other = lines.enter_context(
            socket.create_connection(("127.0.0.1", own_house.port), TIMEOUT_S, ("127.0.0.2", 0))
        )
        assert other.recv(1_000).startswith(b"+OK <")


def test_many_people_read_at_once(house: House) -> None:
    accounts = [house.account() for _ in range(12)]
    for account in accounts:
        for number in range(20):
            account.put(f"{number}.host", account.name.encode() + b"\n" * number)
    wrong: list[str] = []

    def read(index: int) -> None:
        account = accounts[index]
        client = house.login(account)
        for number in range(1, 21):
            if kept_lines(client, number)[0] != account.name.encode():
                wrong.append(account.name)
            client.dele(number)
        client.quit()

    readers = [threading.Thread(target=read, args=(index,)) for index in range(len(accounts))]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(TIMEOUT_S)
    assert not wrong
    assert all(not account.files() for account in accounts)


@pytest.mark.parametrize("point", ["pop3.before_unlink", "pop3.after_unlink"])
def test_a_session_killed_in_quit_says_no_ok_and_loses_nothing_else(own_house: House, point: str) -> None:
    ann = own_house.account()
    for number, name in enumerate(("a", "b", "c"), 1):
        ann.put(name, b"text\n", mtime=number)
    own_house.start(CRASH_AT=point)
    client = own_house.login(ann)
    client.dele(2)
    with pytest.raises(poplib.error_proto, match="unable to unlink all deleted messages"):
        client.quit()
    hang_up(client)
    assert ann.files() == ({"new/a", "new/b", "new/c"} if point == "pop3.before_unlink" else {"new/a", "new/c"})
    assert own_house.stop() == 0
    own_house.start()
    again = own_house.login(ann)
    uids = [line.split()[1] for line in again.uidl()[1]]
    if b"b" in uids:
        again.dele(uids.index(b"b") + 1)
    again.quit()
    assert ann.files() == {"cur/a:2,", "cur/c:2,"}


def test_a_service_killed_in_a_session_changes_nothing_and_leaves_no_process(own_house: House) -> None:
    ann = own_house.account()
    ann.put("a", b"text\n")
    own_house.start()
    client = own_house.login(ann)
    client.dele(1)
    own_house.signal(signal.SIGKILL)
    assert own_house.wait() == -signal.SIGKILL
    hang_up(client)
    assert ann.files() == {"new/a"}
    own_house.start()
    again = own_house.login(ann)  # the lock went with the child
    assert again.stat() == (1, 6)
    again.quit()


def test_a_service_that_is_asked_to_end_lets_idle_sessions_go_at_once(own_house: House) -> None:
    ann = own_house.account()
    ann.put("a", b"text\n")
    own_house.start(TIME_SCALE="1")
    client = own_house.login(ann)
    client.dele(1)
    assert own_house.stop() == 0
    with pytest.raises((poplib.error_proto, OSError)):
        client.noop()
    hang_up(client)
    assert ann.files() == {"new/a"}


def test_a_service_whose_spawner_dies_ends(own_house: House) -> None:
    own_house.start()
    children = Path(f"/proc/{own_house.pid}/task/{own_house.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    assert own_house.wait() == 75


def test_a_wrong_environment_is_refused(own_house: House) -> None:
    with pytest.raises(AssertionError, match="POP3_BIND='nowhere' is not host:port"):
        own_house.start(POP3_BIND="nowhere")
    assert own_house.wait() == 78


def test_curl_fetches_a_message(house: House, program: Callable[[str], str]) -> None:
    ann = house.account()
    ann.put("a", b"Subject: one\n\n.text\n")
    fetched = subprocess.run(
        [
            program("curl"),
            "--silent",
            "--show-error",
            "--user",
            f"{ann.name}:{PASSWORD}",
            f"pop3://127.0.0.1:{house.port}/1",
        ],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (fetched.returncode, fetched.stdout, fetched.stderr) == (0, b"Subject: one\r\n\r\n.text\r\n", b"")


def test_mpop_moves_messages_into_a_maildir(house: House, tmp_path: Path, program: Callable[[str], str]) -> None:
    mpop = program("mpop")
    ann = house.account()
    ann.put("a", b"Subject: one\n\ntext\n")
    for folder in ("tmp", "new", "cur"):
        (tmp_path / "inbox" / folder).mkdir(parents=True)
    (tmp_path / "rc").write_text(
        f"account default\nhost 127.0.0.1\nport {house.port}\ntls off\nauth user\nuser {ann.name}\n"
        f"password {PASSWORD}\nkeep off\ndelivery maildir {tmp_path}/inbox\nuidls_file {tmp_path}/uidls\n"
        "received_header off\n"
    )
    (tmp_path / "rc").chmod(0o600)
    subprocess.run([mpop, "-C", str(tmp_path / "rc"), "-q"], timeout=TIMEOUT_S, check=True)
    (fetched,) = (tmp_path / "inbox" / "new").iterdir()
    assert fetched.read_bytes() == b"Subject: one\n\ntext\n"
    assert ann.files() == set()


def test_fetchmail_hands_messages_on(house: House, tmp_path: Path, program: Callable[[str], str]) -> None:
    fetchmail = program("fetchmail")
    ann = house.account()
    ann.put("a", b"Subject: one\n\ntext\n")
    (tmp_path / "rc").write_text(
        f'poll 127.0.0.1 proto pop3 port {house.port} user "{ann.name}" password "{PASSWORD}" '
        f'sslproto "" fetchall mda "cat >> {tmp_path}/inbox"\n'
    )
    (tmp_path / "rc").chmod(0o600)
    subprocess.run(
        [
            fetchmail,
            "-f",
            str(tmp_path / "rc"),
            "-i",
            str(tmp_path / "ids"),
            "--pidfile",
            str(tmp_path / "pid"),
            "-s",
        ],
        timeout=TIMEOUT_S,
        check=True,
        env={**os.environ, "FETCHMAILHOME": str(tmp_path)},
    )
    assert b"Subject: one" in (tmp_path / "inbox").read_bytes()
    assert ann.files() == set()
