"""Starts what is due on workers that have room for it, and takes in what they report.

A delivery whose remote worker went away is not given to another before REATTACH_S, unless that worker comes back and
names it: it may be past the final dot. What is due decides plan.py, what a report leads to ledger.py.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from mail.ids import MessageId
from mail.outcome import Kind
from mail.routing import Channel
from runtime import wire
from runtime.serve import Process
from runtime.silence import LAPSE_S
from runtime.worker import ORPHAN_S
from services.queue import errand, retry
from services.queue.errand import Errand, Job, errands_of
from services.queue.flights import Flight, Flights
from services.queue.ledger import Ledger
from services.queue.links import Link, Links
from services.queue.log import DamagedBody
from services.queue.message import Message, State
from services.queue.parcels import Heard, delivery_of
from services.queue.plan import Plan
from services.queue.settlement import Reported, Settlement
from services.queue.store import Store

# How long a new owner, or one whose worker went away, waits for the worker before the delivery is given to another.
REATTACH_S = 30.0
assert REATTACH_S > LAPSE_S > ORPHAN_S, "an orphaned worker stops before another may start"

# A damaged message is not delivered and not forgotten: it is looked at again after this, for somebody may mend it.
_DAMAGED_AGAIN_MS = 3_600_000

# While workers are busy, what comes due gathers for so long and goes out together: a stream item costs as much as the
# work on several messages.
GATHER_S = 0.003

# Messages of an adopted log that are planned in one go: the others are served in between.
_ADOPTED_AT_ONCE = 500


class Dispatch:
    """Gives due errands to workers and takes in what they report."""

    def __init__(self, store: Store, plan: Plan, links: Links, process: Process) -> None:
        self._store = store
        self._plan = plan
        self.links = links
        self._process = process
        self._flights = Flights()
        self._timer: asyncio.TimerHandle | None = None
        self._pump_is_due = False
        self._stopped = False
        self._held_until = 0.0  # monotonic: remote work of adopted logs waits until then
        self._suspect_ms: dict[str, int] = {}  # logs whose last owner did not end in order, and when we took them
        self._damaged: set[MessageId] = set()  # messages that did not read when they were last due
        store.on_message = self.message_came
        store.on_change.append(lambda: links.tell_logs(list(store.ledgers)))
        links.heard_by(self)

    # -- what there is to do ------------------------------------------------------------------------------------------

    def message_came(self, message: Message) -> None:
        """Plans the attempts of a message that is committed."""
        self._plan_all(errands_of(message))

    async def adopt(self, ledger: Ledger, clean: bool) -> None:
        """Plans everything in a log that is ours now; after an unclean end, remote attempts may be under way."""
        held_ms = 0
        if not clean:
            held_ms = self._process.clock.steady_ms() + int(REATTACH_S * 1_000)
            self._held_until = self._process.clock.monotonic() + REATTACH_S
            self._suspect_ms[ledger.log.name.log] = ledger.time.now_ms()
        for count, message_id in enumerate(ledger.index.ids()):
            message = ledger.index.look_at(message_id)
            if message:
                self._plan_all(errands_of(message), ledger.time.ahead_ms(), held_ms)
            if count % _ADOPTED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def try_everything_now(self) -> None:
        """SIGALRM: every message is due, but for what the worker of an earlier owner may still be at."""
        wait_s = self._held_until - self._process.clock.monotonic()
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self.try_everything_now)
            return
        self._plan.make_all_due()
        self._pump_soon()

    # -- what an operator asks and wants ------------------------------------------------------------------------------

    def is_damaged(self, message: MessageId) -> bool:
        """Whether the message did not read when it was last due."""
        return message in self._damaged

    def is_away(self, log: str, message: Message, index: int) -> bool:
        """Whether a worker that is away may be at work on a recipient, and may still come back."""
        recipient = message.recipients[index]
        if recipient.settled or recipient.route.channel is Channel.LOCAL:
            return False
        if recipient.state is State.DELIVERING:
            return any(index in flight.left for flight in self._flights.lost(message.id))
        return self.may_have_begun(log, message, index)

    def may_have_begun(self, log: str, message: Message, index: int) -> bool:
        """Whether an earlier owner of the log, which died, may have begun an attempt of which we do not know yet."""
        recipient = message.recipients[index]
        is_waited_for = self._process.clock.monotonic() < self._held_until
        due_ms = max(message.arrived_ms, recipient.next_attempt_ms)
        return is_waited_for and not recipient.settled and due_ms < self._suspect_ms.get(log, 0)

    def resume(self, ledger: Ledger, message: Message) -> None:
        """Plans a message again that was held; what a worker that is away may be at waits for it still."""
        left_s = self._held_until - self._process.clock.monotonic()
        waits = left_s > 0 and ledger.log.name.log in self._suspect_ms
        held_ms = self._process.clock.steady_ms() + int(left_s * 1_000) if waits else 0
        self._plan_all(errands_of(message), ledger.time.ahead_ms(), held_ms)

    def urge(self, message: Message, among: Iterable[int], lost: bool) -> None:
        """Tries recipients now, before others and though their destination is left alone. `lost`: what a worker that
        is away has is taken from it: if it comes back, the recipient may get two copies."""
        if lost:
            for flight in self._flights.lost(message.id):
                self._take_back(flight)
        for one in errands_of(message, among):
            self._plan.urge(one)
        self._pump_soon()

    async def finish(self, timeout_s: float) -> bool:
        """Gives nothing out any more and waits for what is out; says whether all of it came back in time."""
        self._stopped = True
        self._status()
        try:
            await asyncio.wait_for(self._flights.empty.wait(), timeout_s)
        except TimeoutError:
            return False
        # What is held back may still be with a worker of an earlier owner: the next one has to wait for it too.
        return self._process.clock.monotonic() >= self._held_until

    @property
    def plan(self) -> Plan:
        return self._plan

    @property
    def under_way(self) -> int:
        return sum(self._flights.busy.values())

    def _plan_all(self, errands: Iterable[Errand], ahead_ms: int = 0, held_ms: int = 0) -> None:
        """Plans errands of one log; the steady time of this process, in which those of all logs wait together, is
        `ahead_ms` ahead of the log's. None waits for longer than the curve lets a living message wait; remote ones wait
        until `held_ms` at least, for until then their worker may come back.
        """
        now_ms, rules = self._process.clock.steady_ms(), self._store.rules
        for one in errands:
            due_ms = one.due_ms + ahead_ms
            if due_ms > now_ms:
                longest_ms = retry.longest_gap_ms(one.channel, rules.lifetime_s, rules.scale)
                due_ms = retry.not_after_gap(due_ms, now_ms, longest_ms)
            if one.channel is Channel.REMOTE:
                due_ms = max(due_ms, held_ms)
            self._plan.put(Errand(one.ticket, one.channel, one.destination, due_ms), now_ms)
        self._pump_soon()

    def _ahead_ms(self, log: str) -> int:
        ledger = self._store.ledgers.get(log)
        return ledger.time.ahead_ms() if ledger else 0

    def _pump_soon(self) -> None:
        if not self._pump_is_due:
            self._pump_is_due = True
            free = sum(self.links.credit(channel) for channel in Channel)
            slots = sum(self.links.slots(channel) for channel in Channel)
            asyncio.get_running_loop().call_later(0 if free * 2 >= slots else GATHER_S, self._pump)

    def _pump(self) -> None:
        """Starts as much as is due and as workers have slots for."""
        self._pump_is_due = False
        if self._stopped:
            return
        now_ms = self._process.clock.steady_ms()
        started = False
        for channel in Channel:
            while taken := self._plan.take(channel, self.links.credit(channel), now_ms):
                for destination, ticket in taken:
                    if self._start(channel, ticket):
                        started = True
                    else:
                        self._plan.done(channel, destination)
        if started:
            self._status()
        self._set_timer(now_ms)

    def _set_timer(self, now_ms: int) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due_ms = self._plan.next_due_ms()
        if due_ms is not None:
            # Looked at again every minute at least: the loop's own clock stands still while the machine sleeps.
            delay_s = min(60.0, max(0, due_ms - now_ms) / 1_000)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._pump)

    # -- out ----------------------------------------------------------------------------------------------------------

    def _start(self, channel: Channel, ticket: errand.Ticket) -> bool:
        """Sends what a ticket stands for to a worker; False when it leads to nothing any more, or not now."""
        found = self._store.find(errand.message_of(ticket))
        job = errand.begin(found[0], found[1], ticket) if found else None
        if found is None or job is None:
            return False
        log, message = found
        if not self._store.ledgers[log].is_ours():
            return False  # before the look for its body, which has moved: that would be taken for damage
        try:
            body = self._store.ledgers[log].body(message)
        except (DamagedBody, OSError) as error:
            self._process.events.alert(f"msg {job.id} is not delivered: {error}")
            self._damaged.add(job.id)
            now_ms = self._process.clock.steady_ms()
            self._plan.put(Errand(ticket, channel, job.destination, now_ms + _DAMAGED_AGAIN_MS), now_ms)
            return False
        self._damaged.discard(job.id)
        self._warn_of_suspect(job, message)
        link = self.links.freest(channel)
        flight = self._lift_off(job, message, link)
        link.send(delivery_of(flight, message, body), body)
        return True

    def _lift_off(self, job: Job, message: Message, link: Link | None) -> Flight:
        flight = self._flights.begin(job, link, planned=True)
        flight.began_ms = self._store.ledgers[job.log].time.now_ms()
        for index in job.recipients:
            message.recipients[index].state = State.DELIVERING
            self._process.events.starting_delivery(
                flight.numbers[index], job.id, job.channel.value, message.recipients[index].route.address
            )
        return flight

    def _warn_of_suspect(self, job: Job, message: Message) -> None:
        """An owner that died may have had this very attempt under way, and its worker may have died with it."""
        taken_ms = self._suspect_ms.get(job.log, 0)
        due_ms = max(message.arrived_ms, *(message.recipients[index].next_attempt_ms for index in job.recipients))
        if job.channel is Channel.REMOTE and due_ms < taken_ms:
            self._process.events.possible_duplicate("W3", message.id)

    # -- in: what workers say (links.Hearer) --------------------------------------------------------------------------

    def credit_changed(self) -> None:
        self._pump_soon()

    def slots_changed(self) -> None:
        self._status()

    def held(self, link: Link, key: str, recipients: list[int]) -> None:
        """A worker names a delivery that it has: it goes on, and nobody else gets it."""
        flight = self._flights.find(key) or self._flights.recall(key, recipients, self._store)
        if flight:
            flight.link = link

    def report(self, link: Link, heard: Heard) -> None:
        """What became of a recipient: recorded, and what follows from it begun; not ours: so it is told."""
        ledger, reported = self._store.ledgers.get(heard.log), heard.reported
        if ledger is None or reported is None:
            link.not_owner(heard.key, heard.recipient)
            return
        if heard.possible_duplicate:
            self._process.events.possible_duplicate("W3", reported.id)
        flight = self._flights.find(heard.key)
        if flight and flight.report(heard.recipient):
            self._leave(flight)
            self._judge(flight, heard.unreachable, reported)
        reported = replace(reported, began_ms=flight.began_ms if flight else 0)
        then = partial(self._settled, link, heard.key, heard.log, reported)
        ledger.settle(reported, ledger.time.now_ms(), then)

    def _settled(
        self, link: Link | None, key: str, log: str, reported: Reported, settlement: Settlement | None
    ) -> None:
        """A report is recorded: the worker may forget it, the log is told, and what it led to begins."""
        if settlement is None:
            return  # unknown: the worker keeps it, and reports it to the next owner
        if link:
            link.acknowledge(key, reported.recipient)
        flight = self._flights.find(key)
        number = flight.numbers.get(reported.recipient, 0) if flight else 0
        if flight and flight.settle(reported.recipient):
            self._land(flight)
        if settlement.message and settlement.settled:
            became = wire.outcome_of(settlement.settled.kind, settlement.settled.report)
            self._process.events.delivery(number, reported.id, became)
            self._status()
            self._go_on(log, settlement, settlement.message, flight, reported)

    def _go_on(
        self, log: str, settlement: Settlement, message: Message, flight: Flight | None, reported: Reported
    ) -> None:
        for child in settlement.children:
            if child.id == settlement.bounced_to:
                self._process.events.bounce_msg(message.id, child.id)
            elif child.id in settlement.notices:
                self._process.events.notice_msg(message.id, child.id, settlement.notices[child.id])
            else:
                self._process.events.forwarded(message.id, child.id)
        if settlement.discarded:
            self._process.events.triple_bounce(message.id)
        if settlement.finished:
            self._process.events.end_msg(message.id)
        elif flight is None:
            self._plan_all(errands_of(message, [reported.recipient]), self._ahead_ms(log))
        elif not flight.left:
            self._plan_all(errands_of(message, flight.job.recipients), self._ahead_ms(log))
        for child in settlement.children:
            self._store.announce(child)
            self.message_came(child)

    def _leave(self, flight: Flight) -> None:
        """The attempt is over at its destination, which has room for the next, whenever it will be recorded."""
        if flight.planned:
            flight.planned = False
            self._plan.done(flight.job.channel, flight.job.destination)
            self._pump_soon()

    def _judge(self, flight: Flight, unreachable: bool, reported: Reported) -> None:
        """Leaves a destination alone that as a whole did not answer, and ends what has waited for it too long."""
        channel, destination = flight.job.channel, flight.job.destination
        now_ms = self._process.clock.steady_ms()
        if not unreachable:
            self._plan.reached(channel, destination)
        elif self._plan.unreachable(channel, destination, now_ms):
            rules = self._store.rules
            # Ids are born by the wall clock, which may have been set. This only chooses whom to ask about: the ledger
            # decides who is too old.
            oldest_ms = min(now_ms, self._process.clock.wall_ms()) - int(rules.lifetime_s * rules.scale * 1_000)
            for ticket in self._plan.give_up(channel, destination, oldest_ms):
                self._let_die(ticket, reported.report)

    def _let_die(self, ticket: errand.Ticket, report: str) -> None:
        """What another message's attempt has just learned of the destination holds for this one: it is its last."""
        found = self._store.find(errand.message_of(ticket))
        job = errand.begin(found[0], found[1], ticket) if found else None
        if found is None or job is None:
            return
        log, message = found
        flight = self._lift_off(job, message, None)
        flight.planned = False
        ledger = self._store.ledgers[log]
        for index in job.recipients:
            reported = Reported(job.id, index, job.attempt, Kind.DEFERRED, report)
            then = partial(self._settled, None, job.key, log, reported)
            ledger.settle(reported, ledger.time.now_ms(), then)

    def _land(self, flight: Flight) -> None:
        self._leave(flight)
        self._flights.end(flight)

    def link_gone(self, link: Link) -> None:
        """A worker's stream has ended: what it was doing goes to another, at once or when it cannot be past the dot."""
        flights = self._flights.of(link)
        self._process.events.worker_gone(link.channel.value, link.worker, len(flights))
        for flight in flights:
            flight.link = None
            if flight.job.channel is Channel.LOCAL:
                self._take_back(flight)
            else:
                flight.losses += 1
                asyncio.get_running_loop().call_later(
                    REATTACH_S, self._take_back_unless_attached, flight, flight.losses
                )

    def _take_back_unless_attached(self, flight: Flight, losses: int) -> None:
        if flight.link is None and flight.losses == losses and self._flights.find(flight.job.key) is flight:
            self._process.events.possible_duplicate("W3", flight.job.id)
            self._take_back(flight)

    def _take_back(self, flight: Flight) -> None:
        ledger = self._store.ledgers.get(flight.job.log)
        message = ledger.index.get(flight.job.id) if ledger else None
        self._land(flight)
        if message is None:
            return
        for index in flight.left:
            if message.recipients[index].state is State.DELIVERING:
                message.recipients[index].state = State.WAITING
        self._plan_all(errands_of(message, flight.job.recipients), self._ahead_ms(flight.job.log))

    # -- the status line ----------------------------------------------------------------------------------------------

    def _status(self) -> None:
        busy = self._flights.busy
        local, remote = ((busy[channel], self.links.slots(channel)) for channel in Channel)
        self._process.events.status(local, remote, self._stopped)
