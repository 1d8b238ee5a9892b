"""What happens, as events. A log is a list of them; each is a method here, with typed fields, and keeps its name.

An event is written twice: to standard output in qmail's words (qmail-log(5)) or as JSON, and, when EVENTS_DIR is set,
as JSON to a file a day that `trace` reads. Lines gather during one turn of the event loop and are written together.
Nothing from outside reaches a line unescaped: qmail's words pass `words`, JSON escapes by itself.
"""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime

from prometheus_client import Counter

from mail import outcome
from runtime.clock import Clock

_UNPRINTABLE = re.compile(r"[^\x21-\x24\x26-\x7e/]")
_FIELD_MAX_CHARACTERS = 4_000
_DAY_MS = 86_400_000

_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode

_counted = Counter("seapost_events", "Events by name", ["event"])


def words(text: str) -> str:
    """Text as qmail's log shows it: a newline becomes /, what does not print, and %, becomes _."""
    return _UNPRINTABLE.sub("_", text[:_FIELD_MAX_CHARACTERS].replace("\n", "/"))


class Events:
    """The event log of one process. `instance` is its name, such as queue-0."""

    def __init__(
        self, instance: str, clock: Clock, log_format: str = "qmail", directory: str = "", keep_days: int = 14
    ) -> None:
        self._instance = instance
        self._clock = clock
        self._json_out = log_format == "json"
        self._archive = _Archive(directory, instance, keep_days) if directory else None
        self._lines: list[str] = []
        self._records: list[str] = []
        self._flush_is_due = False
        self._counters: dict[str, Counter] = {}
        self._second = -1
        self._second_shown = ""

    # -- every service ------------------------------------------------------------------------------------------------

    def started(self, **addresses: str) -> None:
        shown = " ".join(f"{name}={where}" for name, where in addresses.items())
        self._emit("started", f"started {shown}", **addresses)

    def stopping(self) -> None:
        self._emit("stopping", "status: exiting")

    def reread(self) -> None:
        """SIGHUP was obeyed; a mistake in a file was an alert just before."""
        self._emit("reread", "reread controls")

    def warning(self, text: str, **fields: object) -> None:
        """Something is not as it should be; the service goes on by itself."""
        self._emit("warning", f"warning: {_shown(text)}", text=text, **fields)

    def alert(self, text: str, **fields: object) -> None:
        """Somebody should look."""
        self._emit("alert", f"alert: {_shown(text)}", text=text, **fields)

    def possible_duplicate(self, window: str, message: str) -> None:
        """One of the windows of docs/fault-model.md was entered."""
        self._emit(
            "possible-duplicate",
            f"possible-duplicate window={window} id={message}",
            window=window,
            msg=message,
        )

    # -- smtpd --------------------------------------------------------------------------------------------------------

    def accepted(self, message: str, peer: str, sender: str, recipients: list[str], size: int) -> None:
        self._emit(
            "accepted",
            f"accepted msg {message}: bytes {size} from <{words(sender)}> by {words(peer)}",
            msg=message,
            peer=peer,
            sender=sender,
            recipients=recipients,
            bytes=size,
        )

    def refused(self, peer: str, reply: str, about: str) -> None:
        self._emit(
            "refused",
            f"refused {words(peer)}: {words(reply)} {words(about)}",
            peer=peer,
            reply=reply,
            about=about,
        )

    def denied(self, peer: str) -> None:
        """A tcp.smtp rule closed the connection."""
        self._emit("denied", f"denied {words(peer)}", peer=peer)

    # -- queue, in qmail's words --------------------------------------------------------------------------------------

    def new_msg(self, message: str) -> None:
        self._emit("new msg", f"new msg {message}", msg=message)

    def info_msg(self, message: str, size: int, sender: str, uid: int) -> None:
        self._emit(
            "info msg",
            f"info msg {message}: bytes {size} from <{words(sender)}> qp {message} uid {uid}",
            msg=message,
            bytes=size,
            sender=sender,
            uid=uid,
        )

    def starting_delivery(self, number: int, message: str, channel: str, recipient: str) -> None:
        self._emit(
            "starting delivery",
            f"starting delivery {number}: msg {message} to {channel} {words(recipient)}",
            delivery=number,
            msg=message,
            channel=channel,
            recipient=recipient,
        )

    def status(self, local: tuple[int, int], remote: tuple[int, int], exiting: bool = False) -> None:
        """Deliveries under way and offered slots, by channel."""
        suffix = " exitasap" if exiting else ""
        self._emit(
            "status",
            f"status: local {local[0]}/{local[1]} remote {remote[0]}/{remote[1]}{suffix}",
            local=local,
            remote=remote,
        )

    def delivery(self, number: int, message: str, became: outcome.Outcome) -> None:
        word = outcome.word(became)
        self._emit(
            "delivery",
            f"delivery {number}: {word}: {words(became.report)}",
            delivery=number,
            msg=message,
            outcome=word,
            report=became.report,
        )

    def bounce_msg(self, message: str, bounce: str) -> None:
        self._emit("bounce msg", f"bounce msg {message} qp {bounce}", msg=message, bounce=bounce)

    def notice_msg(self, message: str, notice: str, of: str) -> None:
        """The sender is told of a success or of a delay."""
        self._emit(
            "notice msg",
            f"notice msg {message} qp {notice}: {of}",
            msg=message,
            child=notice,
            of=of,
        )

    def triple_bounce(self, message: str) -> None:
        self._emit("triple bounce", f"triple bounce: discarding {message}", msg=message)

    def end_msg(self, message: str) -> None:
        self._emit("end msg", f"end msg {message}", msg=message)

    def held_msg(self, message: str, by: str) -> None:
        """An operator holds a message: nothing of it is started."""
        self._emit("held msg", f"held msg {message} by {words(by)}", msg=message, by=by)

    def released_msg(self, message: str, by: str) -> None:
        """An operator has let go of a message that was held."""
        self._emit("released msg", f"released msg {message} by {words(by)}", msg=message, by=by)

    def retried_msg(self, message: str, by: str) -> None:
        """An operator wants a message tried now."""
        self._emit("retried msg", f"retried msg {message} by {words(by)}", msg=message, by=by)

    def removed_msg(self, message: str, by: str, recipients: int) -> None:
        """An operator has ended a message; so many recipients will not get it, and nobody is told."""
        self._emit(
            "removed msg",
            f"removed msg {message} by {words(by)} recipients {recipients}",
            msg=message,
            by=by,
            recipients=recipients,
        )

    def forwarded(self, message: str, child: str) -> None:
        self._emit("forwarded", f"forwarded msg {message} qp {child}", msg=message, child=child)

    def took_log(self, log: str, token: int, messages: int, torn: int) -> None:
        """This replica owns the log now; `torn` octets after the last whole frame of its segments count for nothing."""
        self._emit(
            "took log",
            f"took log {log}: token {token} messages {messages} torn {torn}",
            log=log,
            token=token,
            messages=messages,
            torn=torn,
        )

    def removed_log(self, log: str) -> None:
        """An adopted log was empty, and nobody may ask about what was in it."""
        self._emit("removed log", f"removed log {log}", log=log)

    def lost_log(self, log: str, why: str) -> None:
        self._emit("lost log", f"alert: lost log {log}: {words(why)}", log=log, why=why)

    def fence(self, answers: bool) -> None:
        """Redis has begun, or has ceased, to hear of our leases; the mail goes on either way."""
        state = "answers" if answers else "does not answer: logs of dead neighbours are taken later"
        self._emit("fence", f"fence {state}", answers=answers)

    def worker(self, channel: str, worker: str) -> None:
        self._emit(
            "worker",
            f"worker {words(worker)} has come for {channel}",
            channel=channel,
            worker=worker,
        )

    def worker_gone(self, channel: str, worker: str, unfinished: int) -> None:
        self._emit(
            "worker gone",
            f"worker {words(worker)} gone with {unfinished} {channel} unfinished",
            channel=channel,
            worker=worker,
            unfinished=unfinished,
        )

    def reclaimed(self, log: str, segment: str, kept: int) -> None:
        self._emit(
            "reclaimed",
            f"reclaimed {log}/{segment}: {kept} messages kept",
            log=log,
            segment=segment,
            kept=kept,
        )

    def clock_stepped(self, seconds: float) -> None:
        """Somebody set the wall clock; what waits and what ages does not follow it."""
        self._emit("clock stepped", f"clock stepped by {seconds:+.1f} s", seconds=seconds)

    def clock_gap(self, log: str, seconds: float) -> None:
        """Over a reboot, or on another machine, the clock ran ahead by what nobody confirms: no message ages by it."""
        self._emit("clock gap", f"clock gap in {log}: {seconds:.0f} s make no message older", log=log, seconds=seconds)

    def scrubbed(self, log: str, files: int, octets: int, damaged: int) -> None:
        """Every segment and large body of the log was read again from the disk."""
        self._emit(
            "scrubbed",
            f"scrubbed {log}: files {files} bytes {octets} damaged {damaged}",
            log=log,
            files=files,
            octets=octets,
            damaged=damaged,
        )

    # -- local, remote, pop3 ------------------------------------------------------------------------------------------

    def published(self, message: str, account: str, name: str) -> None:
        self._emit(
            "published",
            f"published msg {message} to {words(account)} as {words(name)}",
            msg=message,
            account=account,
            name=name,
        )

    def connected(self, message: str, host: str, ip: str, tls: str) -> None:
        self._emit(
            "connected",
            f"msg {message} by {words(host)} {ip} {words(tls or 'plain')}",
            msg=message,
            host=host,
            ip=ip,
            tls=tls,
        )

    def login(self, user: str, peer: str) -> None:
        self._emit("login", f"login {words(user)} from {words(peer)}", user=user, peer=peer)

    def login_failed(self, user: str, peer: str) -> None:
        self._emit("login failed", f"login failed {words(user)} from {words(peer)}", user=user, peer=peer)

    def logout(self, user: str, peer: str, retrieved: int, deleted: int) -> None:
        self._emit(
            "logout",
            f"logout {words(user)} from {words(peer)}: retrieved {retrieved} deleted {deleted}",
            user=user,
            peer=peer,
            retrieved=retrieved,
            deleted=deleted,
        )

    # -- how ----------------------------------------------------------------------------------------------------------

    def _emit(self, event: str, line: str, /, **fields: object) -> None:
        counter = self._counters.get(event)
        if counter is None:  # `labels` takes longer than all the rest of counting
            counter = self._counters[event] = _counted.labels(event)
        counter.inc()
        if self._json_out or self._archive:
            record = {"time": self._now(), "service": self._instance, "event": event, **fields}
            self._records.append(_encode(record))
        self._lines.append(line)
        if not self._flush_is_due:
            self._flush_is_due = True
            _soon(self.flush)

    def _now(self) -> str:
        """RFC 3339 with milliseconds; what stands before them is made once a second."""
        second, ms = divmod(self._clock.wall_ms(), 1_000)
        if second != self._second:
            self._second = second
            self._second_shown = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self._second_shown}.{ms:03}Z"

    def flush(self) -> None:
        """Writes what has gathered. Called by itself once a turn; call it before the process ends."""
        self._flush_is_due = False
        lines, records = self._lines, self._records
        self._lines, self._records = [], []
        if records and self._archive:
            self._archive.append(self._clock.wall_ms(), records)
        shown = records if self._json_out else lines
        if shown:
            with contextlib.suppress(OSError):  # nobody reads us any more; the archive has it
                os.write(1, ("\n".join(shown) + "\n").encode("utf-8", "backslashreplace"))


class _Archive:
    """A file of JSON lines a day; those older than `keep_days` are removed when a new one begins."""

    def __init__(self, directory: str, instance: str, keep_days: int) -> None:
        self._directory = directory
        self._instance = instance
        self._keep_days = keep_days
        self._day = -1
        self._fd = -1

    def append(self, now_ms: int, records: list[str]) -> None:
        day = now_ms // _DAY_MS
        if day != self._day:
            self._open(day)
        try:
            os.write(self._fd, ("\n".join(records) + "\n").encode())
        except OSError:
            self._day = -1  # a full disk must not stop the mail; the next line tries to open again

    def _open(self, day: int) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._day = day
        # The directory says who may read (0750, in containers with the operator's group).
        self._fd = os.open(self._path(day), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        oldest = os.path.basename(self._path(day - self._keep_days))
        for name in os.listdir(self._directory):
            if name.startswith(f"{self._instance}.") and name.endswith(".jsonl") and name < oldest:
                discard(os.path.join(self._directory, name))

    def _path(self, day: int) -> str:
        date = datetime.fromtimestamp(day * _DAY_MS // 1000, UTC)
        return os.path.join(self._directory, f"{self._instance}.{date:%Y%m%d}.jsonl")


def discard(path: str) -> None:
    """Removes an old event file; that it is already gone is no matter."""
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: TID251 - an event file, nothing durable hangs on it


def _shown(text: str) -> str:
    """Our own sentence, which may quote foreign text: spaces stay, the rest is escaped."""
    return " ".join(words(part) for part in text.split(" "))


def _soon(call: Callable[[], None]) -> None:
    try:
        asyncio.get_running_loop().call_soon(call)
    except RuntimeError:  # before the loop runs, and in processes that have none
        call()
