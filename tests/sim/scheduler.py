"""Virtual time and one baton: everything that happens in a simulated world, in an order that its seed decides.

Each thread of a simulated process is a real thread, but only the holder of the baton runs; it gives the baton away
where a real kernel could take the processor away: at the calls to the disk, and when it has nothing to do. So a process
can be stopped, or can die, between any two calls, and the same seed does it at the same place again. Knows nothing of
mail, disks or networks.
"""

import heapq
import threading
from collections.abc import Callable
from typing import Any, Protocol

# A world that does so much is one that turns in a circle.
EVENTS_MAX = 3_000_000


class Killed(BaseException):
    """Raised in the threads of a process that is dead, so that they unwind; what they do on the way has no effect."""


class Owner(Protocol):
    """The process to which an event belongs: one that is stopped gets it later, one that is dead never."""

    dead: bool
    paused: bool
    held: "list[Event]"


class Event:
    """Something that will happen: in a thread of its process, or, without an actor, in whichever has the baton."""

    __slots__ = ("actor", "at_us", "call", "owner", "park", "seq")

    def __init__(self, at_us: int, seq: int, owner: Owner | None, actor: "Actor | None", call: Any) -> None:
        self.at_us = at_us
        self.seq = seq
        self.owner = owner
        self.actor = actor
        self.call: Callable[[], None] | None = call
        self.park = -1

    def __lt__(self, other: "Event") -> bool:
        return (self.at_us, self.seq) < (other.at_us, other.seq)


class Actor:
    """A thread of a simulated process. `kind` says what it is for: its loop, a log's commits, the pool."""

    def __init__(self, owner: Owner | None, kind: str) -> None:
        self.owner = owner
        self.kind = kind
        self.turn = threading.Semaphore(0)
        self.inbox: Callable[[], None] | None = None
        self.parks = 0
        self.parked = False
        self.resumed = False
        self.thread: threading.Thread | None = None


class Scheduler:
    """The events of one world, by time."""

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self.over = False
        self.failure: BaseException | None = None
        self.main = Actor(None, "main")
        self.running = self.main
        self.outside: Owner | None = None
        self._heap: list[Event] = []
        self._seq = 0
        self._actors: list[Actor] = []

    # -- what will happen ---------------------------------------------------------------------------------------------

    def at(self, after_us: int, owner: Owner | None, call: Callable[[], None], actor: Actor | None = None) -> Event:
        """Calls after so many microseconds."""
        self._seq += 1
        event = Event(self.now_us + max(0, after_us), self._seq, owner, actor, call)
        heapq.heappush(self._heap, event)
        return event

    def again(self, events: list[Event]) -> None:
        """What a process that was stopped has missed happens now, in its order."""
        for event in events:
            self._seq += 1
            event.at_us, event.seq = self.now_us, self._seq
            heapq.heappush(self._heap, event)

    def actor(self, owner: Owner, kind: str) -> Actor:
        """A new thread, which waits for what there is to do."""
        actor = Actor(owner, kind)
        actor.thread = threading.Thread(target=self._live, args=(actor,), name=f"sim-{kind}", daemon=True)
        self._actors.append(actor)
        actor.thread.start()
        return actor

    # -- the baton ----------------------------------------------------------------------------------------------------

    def park(self, after_us: int) -> None:
        """The running thread waits; others run meanwhile. Raises Killed when its process died in that time."""
        me = self.running
        owner = me.owner
        assert owner is not None, "the main thread never waits"
        if owner.dead:
            raise Killed
        me.parks += 1
        me.parked = True
        me.resumed = False
        event = self.at(after_us, owner, _nothing, me)
        event.park = me.parks
        try:
            self._drive(me)
        finally:
            me.parked = False
        if owner.dead:
            raise Killed

    def unwind(self, owner: Owner) -> None:
        """The parked threads of a process that is dead now get the baton once more, to end."""
        for actor in self._actors:
            if actor.owner is owner and actor.parked:
                event = self.at(0, None, _nothing, actor)
                event.park = actor.parks

    def run(self) -> None:
        """Lets everything happen, in the thread that calls, until `end`."""
        self._drive(self.main)

    def end(self) -> None:
        """Nothing more happens; `run` returns."""
        self.over = True

    def close(self) -> None:
        """Ends every thread. Every process must be dead."""
        for actor in self._actors:
            actor.inbox = _stop
            actor.turn.release()
            if actor.thread:
                actor.thread.join()
        self._actors.clear()

    def clear(self) -> None:
        """Lets go of what will not happen any more."""
        self._heap.clear()
        self.running = self.main
        self.outside = None

    def _live(self, me: Actor) -> None:
        me.turn.acquire()
        while me.inbox is not _stop:
            self._take_inbox(me)
            if self.over and me.inbox is not _stop:
                self._give(self.main, None)
                me.turn.acquire()
            elif not self.over:
                self._drive(me)

    def _take_inbox(self, me: Actor) -> None:
        call, me.inbox = me.inbox, None
        if call is None:
            return
        self.running = me
        try:
            call()
        except Killed:
            pass
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """The simulation itself is wrong."""
        self.failure = self.failure or error
        self.end()

    def _drive(self, me: Actor) -> None:
        """Makes events happen until one is for this thread alone: its resumption, or, when it is idle, the end."""
        while not self.over:
            event = self._next()
            if event is None:
                break
            actor = event.actor
            if actor is None:
                self._call(event)
                continue
            if event.park >= 0:
                actor.resumed = True
            if actor is me:
                self.running = me
                if me.parked:
                    return
                me.inbox = event.call
                self._take_inbox(me)
                continue
            self._give(actor, None if event.park >= 0 else event.call)
            me.turn.acquire()
            if me.inbox is _stop:
                break
            if me.parked and me.resumed:
                self.running = me
                return
            if not me.parked:
                self._take_inbox(me)
        # The world is over, or empty: the main thread has the last word.
        self.over = True
        if me is not self.main and me.inbox is not _stop:
            self._give(self.main, None)
            me.turn.acquire()
        if me.parked:
            raise Killed

    def _call(self, event: Event) -> None:
        assert event.call is not None
        try:
            event.call()
        except BaseException as error:
            self.fail(error)

    def _give(self, actor: Actor, call: Callable[[], None] | None) -> None:
        if call is not None:
            actor.inbox = call
        actor.turn.release()

    def _next(self) -> Event | None:
        while self._heap:
            event = heapq.heappop(self._heap)
            self.now_us = max(self.now_us, event.at_us)
            owner, actor = event.owner, event.actor
            if event.park >= 0 and actor and (not actor.parked or actor.resumed or event.park != actor.parks):
                continue
            if owner is not None:
                if owner.dead and event.park < 0:
                    continue
                if owner.paused and not owner.dead:
                    owner.held.append(event)
                    continue
            self.events += 1
            if self.events > EVENTS_MAX:
                self.fail(RuntimeError("the world does not come to rest"))
                return None
            return event
        return None


def _nothing() -> None:
    pass


def _stop() -> None:
    pass
