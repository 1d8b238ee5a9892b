"""The conversations of tests/dialogues against a real port, whole and once more octet by octet.

`C:` a line of the client, `C|` octets without a line end, `S:` a reply (... stands for anything), `M:` sender and
recipients of the next message in the queue, `M|` its text below the Received line, `WITH:` relay. Lines of the client
that follow each other go out in one packet.
"""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.smtpd import tcprules
from tests.harness.smtp_office import RELAY, Server, running

DIALOGUES = sorted(Path(__file__).parents[2].joinpath("dialogues").glob("smtp-*.txt"))


def octets(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def steps(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            kind, rest = re.match(r"(C:|C\||S:|M:|M\||WITH:) ?(.*)", line).groups()  # type: ignore[union-attr]
            yield kind, rest


async def say(writer: asyncio.StreamWriter, said: bytes, single: bool) -> None:
    if not single:
        writer.write(said)
        return
    for octet in said:
        writer.write(bytes((octet,)))
        await asyncio.sleep(0)


async def act(server: Server, path: Path, single: bool) -> None:
    peer = await server.peer()
    reader, writer = peer.reader, peer.writer
    said = b""
    messages = iter(range(100))
    for kind, rest in steps(path):
        if kind in ("C:", "C|"):
            said += octets(rest) + (b"\r\n" if kind == "C:" else b"")
            continue
        await say(writer, said, single)
        said = b""
        if kind == "S:":
            line = await asyncio.wait_for(reader.readline(), 10)
            pattern = re.escape(rest).replace(r"\.\.\.", ".*") if rest != "<closed>" else ""
            assert re.fullmatch(pattern.encode() + (b"\r\n" if rest != "<closed>" else b""), line), (rest, line)
        elif kind == "M:":
            message = server.queue.messages[next(messages)]
            assert f"{message.sender} -> {' '.join(message.recipients)}" == rest
        elif kind == "M|":
            received, continued, text = message.body.split(b"\n", 2)
            assert received.startswith(b"Received: from ")
            assert re.search(rf"by mail\.example\.test with E?SMTP id {message.id}; ".encode(), continued)
            assert text == octets(rest)
    assert len(server.queue.messages) == next(messages)


@pytest.mark.parametrize("single", [False, True], ids=["whole", "octets"])
@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
async def test_dialogue(path: Path, single: bool, tmp_path: Path) -> None:
    peers = RELAY if ("WITH:", "relay") in steps(path) else tcprules.Rules()
    async with running(tmp_path, peers=peers) as server:
        await act(server, path, single)
