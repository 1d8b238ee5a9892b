"""One attempt to deliver one message to its recipients at one destination: which host, which connection, what became.

Every way out of an attempt is a Result for each target; whatever was not answered is Deferred. The only step that can
double a message is the final dot (window W3), and before it the queue must still be within reach.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from mail import address
from mail.limits import HEADER_MAX_OCTETS
from mail.outcome import Deferred, Outcome
from runtime.clock import Chance, Clock
from runtime.config import ConfigError
from runtime.controls import Controls
from runtime.events import Events
from runtime.worker import Delivery, Result, Target
from services.remote import body, mx, report, routes
from services.remote.config import RemoteControls
from services.remote.mx import Directory, Exchanger
from services.remote.pool import Pool
from services.remote.protocol import Envelope, is_path
from services.remote.session import (
    Broken,
    Ending,
    Rejected,
    Session,
    Settings,
    TlsFailed,
    Unreachable,
    connect,
    opportunistic_tls,
)
from services.remote.tcpto import Tcpto

# RFC 5321 4.5.3.1.8: every server takes a hundred recipients; more go in the next transaction.
_RECIPIENTS_PER_TRANSACTION = 100


class Queue(Protocol):
    """What an attempt needs of runtime/worker.py."""

    def may_proceed(self, delivery: Delivery) -> bool: ...

    def settle(self, delivery: Delivery, results: Iterable[Result]) -> None: ...


@dataclass(frozen=True, slots=True)
class World:
    """What an attempt works with."""

    clock: Clock
    chance: Chance
    events: Events
    directory: Directory
    tcpto: Tcpto
    pool: Pool


class Attempts:
    """Deliveries under way."""

    def __init__(self, queue: Queue, world: World, said: RemoteControls) -> None:
        self._queue = queue
        self._world = world
        self._said = said
        self._settings = _settings(said, world.clock)
        self._under_way: set[asyncio.Task[None]] = set()

    def reread(self, controls: Controls) -> None:
        """Takes new control files for what begins from now on; keeps the old ones when the new are wrong."""
        try:
            self._said = RemoteControls.read(controls)
        except ConfigError as error:
            self._world.events.warning(f"control files not read again: {error}")
            return
        self._settings = _settings(self._said, self._world.clock)

    def take(self, deliveries: list[Delivery]) -> None:
        """Starts an attempt for each delivery; each is settled when it ends."""
        for delivery in deliveries:
            task = asyncio.create_task(self._run(delivery))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def stop(self) -> None:
        """Ends what is still under way: unsettled, so that the queue tries again."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def deliver(self, delivery: Delivery) -> list[Result]:
        """What became of each target. Never raises for anything that the world does."""
        by_domain: dict[str, list[Target]] = {}
        for target in delivery.targets:
            by_domain.setdefault(address.split(target.address)[1].lower(), []).append(target)
        results: list[Result] = []
        for domain, targets in by_domain.items():
            results.extend(await self._to_domain(delivery, domain, targets))
        return results

    async def _run(self, delivery: Delivery) -> None:
        try:
            results = await self.deliver(delivery)
        except Exception as error:  # noqa: BLE001 - the top of an attempt: a mistake of ours is no proof against a mail
            self._world.events.alert(f"remote delivery crashed: {error!r}", msg=delivery.id)
            results = _all(delivery.targets, report.crashed())
        self._queue.settle(delivery, results)

    # -- where --------------------------------------------------------------------------------------------------------

    async def _to_domain(self, delivery: Delivery, domain: str, targets: list[Target]) -> list[Result]:
        if not is_path(delivery.sender):
            return _all(targets, report.bad_address())
        bad = [target for target in targets if not is_path(target.address)]
        results = _all(bad, report.bad_address())
        good = [target for target in targets if target not in bad]
        relay = routes.relay(self._said.smtproutes, domain)
        found = await (self._world.directory.relay(relay) if relay else self._world.directory.exchangers(domain))
        if not isinstance(found, tuple):
            return results + _all(good, found, unreachable=isinstance(found, Deferred))
        for start in range(0, len(good), _RECIPIENTS_PER_TRANSACTION):
            group = good[start : start + _RECIPIENTS_PER_TRANSACTION]
            results.extend(await self._to_hosts(delivery, found, group))
        return results

    async def _to_hosts(self, delivery: Delivery, hosts: tuple[Exchanger, ...], targets: list[Target]) -> list[Result]:
        while session := self._idle(hosts):
            results = await self._transact(session, delivery, targets)
            if results is not None:
                return results
        if not self._queue.may_proceed(delivery):
            return _all(targets, report.queue_is_gone())
        fresh = await self._connect(hosts)
        if isinstance(fresh, Deferred):
            return _all(targets, fresh, unreachable=True)
        return await self._transact(fresh, delivery, targets) or _all(targets, report.died(fresh.exchanger.ip))

    def _idle(self, hosts: tuple[Exchanger, ...]) -> Session | None:
        """An idle connection to one of the best hosts."""
        for host in hosts:
            if host.preference != hosts[0].preference:
                break
            session = self._world.pool.take(host.host, host.ip, host.port)
            if session:
                return session
        return None

    async def _connect(self, hosts: tuple[Exchanger, ...]) -> Session | Deferred:
        """The first server that talks to us (RFC 5321 5.1); what the last one said when none does."""
        said = report.no_connection()
        for host in hosts:
            now, chance = self._world.clock.monotonic(), self._world.chance.octets(1)[0]
            if self._world.tcpto.is_skipped(host.ip, now, chance):
                continue
            try:
                return await self._introduced(host)
            except Unreachable as why:
                if why.timed_out:
                    self._world.tcpto.timed_out(host.ip, self._world.clock.monotonic())
                else:
                    self._world.tcpto.answered(host.ip)
            except Rejected as why:
                said = report.refused(host.ip, why.refused.stage, why.refused.reply)
            except Broken:
                said = report.died(host.ip)
        return said

    async def _introduced(self, host: Exchanger) -> Session:
        try:
            session = await connect(host, self._settings, wants_tls=True)
        except TlsFailed:  # opportunistic: a broken TLS must not be worse than none
            session = await connect(host, self._settings, wants_tls=False)
        self._world.tcpto.answered(host.ip)
        return session

    # -- what ---------------------------------------------------------------------------------------------------------

    async def _transact(self, session: Session, delivery: Delivery, targets: list[Target]) -> list[Result] | None:
        """One transaction; None when the connection was closed while it lay idle, and nothing was tried."""
        ip = session.exchanger.ip
        if not self._queue.may_proceed(delivery):
            self._world.pool.give(session)
            return _all(targets, report.queue_is_gone())
        foreign = [] if session.takes_smtputf8 else _beyond_ascii(delivery.sender, targets)
        results = _all(foreign, report.needs_smtputf8(ip))
        targets = [target for target in targets if target not in foreign]
        if not targets:
            self._world.pool.give(session)
            return results
        self._world.events.connected(delivery.id, session.exchanger.host, ip, session.tls)
        envelope = _envelope(delivery, targets)
        try:
            done = await session.deliver(envelope, delivery.body, _asking(self._queue, delivery))
        except asyncio.CancelledError:
            if session.is_after_dot:
                self._world.events.possible_duplicate("W3", delivery.id)
            raise
        if done.is_stale:
            return None
        self._world.pool.give(session)
        after_dot = done.ending is Ending.DIED_AFTER_DOT
        if after_dot:
            self._world.events.possible_duplicate("W3", delivery.id)
        became = report.outcomes(ip, done.verdicts, _otherwise(ip, done.ending))
        for target, outcome, verdict in zip(targets, became, done.verdicts, strict=True):
            results.append(
                Result(
                    target.index,
                    outcome,
                    possible_duplicate=after_dot and verdict is None,
                    relayed=not session.reports_deliveries,
                )
            )
        return results


def _settings(said: RemoteControls, clock: Clock) -> Settings:
    return Settings(clock, said.helohost, said.timeoutconnect_s, said.timeoutremote_s, opportunistic_tls())


def _all(targets: Iterable[Target], outcome: Outcome, unreachable: bool = False) -> list[Result]:
    return [Result(target.index, outcome, unreachable=unreachable) for target in targets]


def _asking(queue: Queue, delivery: Delivery) -> Callable[[], bool]:
    return lambda: queue.may_proceed(delivery)


def _otherwise(ip: str, ending: Ending) -> Deferred:
    if ending is Ending.STOPPED:
        return report.queue_is_gone()
    return report.died_after_dot(ip) if ending is Ending.DIED_AFTER_DOT else report.died(ip)


def _beyond_ascii(sender: str, targets: list[Target]) -> list[Target]:
    """Those who cannot be served without SMTPUTF8: everybody when the sender is beyond ASCII."""
    if not _ascii_domain(sender).isascii():
        return targets
    return [target for target in targets if not _ascii_domain(target.address).isascii()]


def _ascii_domain(path: str) -> str:
    """The address with its domain as A-labels (RFC 5890), so that only a local part needs SMTPUTF8."""
    local, domain = address.split(path)
    if domain.isascii():
        return path
    return f"{local}@{mx.a_label(domain) or domain}"


def _envelope(delivery: Delivery, targets: list[Target]) -> Envelope:
    is_ascii = delivery.body.isascii()
    header = b"" if is_ascii else delivery.body[:HEADER_MAX_OCTETS].partition(b"\n\n")[0]
    return Envelope(
        sender=_ascii_domain(delivery.sender),
        recipients=tuple(_ascii_domain(target.address) for target in targets),
        size=body.size(delivery.body),
        has_8bit=not is_ascii,
        has_8bit_header=not header.isascii(),
        envid=delivery.envid,
        ret=delivery.ret,
        wishes=tuple(target.wish for target in targets),
    )
