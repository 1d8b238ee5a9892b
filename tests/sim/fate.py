"""What goes wrong in one history: drawn from its seed, and aimed at where a mistake would hurt.

Most histories have a theme, because what breaks a protocol is not one fault but a certain second one after the first: a
pause inside a commit and then the death of the taker, a frame that was never synced and then the power.
"""

from collections.abc import Callable
from functools import partial
from random import Random

from runtime.faults import Point
from tests.sim.faults import Action, Trigger, World
from tests.sim.process import SimProcess

COMMIT_CALLS = ("write", "fdatasync", "stat", "create", "fallocate", "fsync", "fsyncdir", "unlink")
TAKEOVER_CALLS = ("create", "fsyncdir", "rename", "open", "fdatasync", "write", "fsync", "listdir", "unlink", "stat")
COMMIT_POINTS = (
    Point.LOG_BEFORE_WRITE,
    Point.LOG_AFTER_WRITE,
    Point.LOG_AFTER_SYNC,
    Point.LOG_AFTER_RECHECK,
    Point.SEGMENT_AFTER_CREATE,
    Point.LARGE_AFTER_SYNC,
)
RECLAIM_POINTS = (Point.RECLAIM_AFTER_SNAPSHOT, Point.RECLAIM_AFTER_UNLINK)
TAKEOVER_POINTS = (
    Point.TAKEOVER_AFTER_TOKEN,
    Point.TAKEOVER_AFTER_RENAME,
    Point.TAKEOVER_AFTER_SCAN,
    Point.TAKEOVER_AFTER_SEAL,
)
RIM_POINTS = (Point.INTAKE_BEFORE_RECEIPT, Point.DISPATCH_BEFORE_DELIVERY, Point.DISPATCH_BEFORE_ACK)
WORKER_POINTS = (
    Point.WORKER_BEFORE_OUTCOME,
    Point.PUBLISH_BEFORE_RENAME,
    Point.PUBLISH_AFTER_SYNC,
    Point.REMOTE_BEFORE_DOT,
    Point.REMOTE_AFTER_DOT,
    Point.SMTPD_BEFORE_ENQUEUE,
    Point.SMTPD_BEFORE_REPLY,
)


_THEMES = (
    *("pause", "pause", "takeover", "takeover", "reclaim", "power", "disk", "streams", "mixed"),
    *("late", "late", "doubt", "doubt", "amnesia", "amnesia", "stale", "sleeper"),
)
_LONG = ("late", "sleeper")
_BACKLOG = ("late", "doubt")


class Fate:
    """Draws the faults of one history."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.theme = chance.choice(_THEMES)
        self.active_s = 110.0 if self.theme in _LONG else chance.choice((20.0, 30.0, 45.0))

    def draw(self) -> tuple[list[Trigger], list[tuple[float, str, Callable[[World], None]]]]:
        """The triggers that are armed at the start, and what happens at given seconds."""
        triggers = getattr(self, f"_{self.theme}")()
        timed = [self._timed() for _ in range(self._chance.choice((1, 2, 3, 4)))]
        if self.theme in _BACKLOG:
            timed.append((0.6, "no workers", self._workers_away))
        return triggers, timed

    def _workers_away(self, world: World) -> None:
        """What is accepted stays queued, and so in the segment where it was written."""
        back_s = self.active_s * self._chance.choice((0.05, 0.5, 0.9, 0.9))
        for worker in world.living("local") + world.living("remote"):
            world.kill(worker, back_s)

    # -- moments ------------------------------------------------------------------------------------------------------

    def _nth(self, most: int) -> int:
        """Small numbers often, large ones too."""
        return 1 + int(most ** self._chance.random()) - (self._chance.random() < 0.5)

    def _in_commit(self, what: str, action: Action) -> Trigger:
        if self._chance.random() < 0.5:
            return Trigger(self._chance.choice(COMMIT_POINTS), "", max(1, self._nth(40)), what, action)
        return Trigger(self._chance.choice(COMMIT_CALLS), "log", max(1, self._nth(60)), what, action)

    def _in_takeover(self, what: str, action: Action, first: bool = False) -> Trigger:
        # The replicas' first logs are made in their loops: whatever the pool does is a takeover.
        nth = max(1, self._nth(2 if first else 5))
        if self._chance.random() < 0.5:
            return Trigger(self._chance.choice(TAKEOVER_POINTS), "", nth, what, action)
        return Trigger(self._chance.choice(TAKEOVER_CALLS), "pool", nth, what, action)

    def _in_reclaim(self, what: str, action: Action) -> Trigger:
        if self._chance.random() < 0.4:
            return Trigger(self._chance.choice(RECLAIM_POINTS), "", max(1, self._nth(4)), what, action)
        return Trigger("unlink", "log", max(1, self._nth(4)), what, action, ".seg")

    def _anywhere(self, what: str, action: Action) -> Trigger:
        if self._chance.random() < 0.4:
            points = self._chance.choice((COMMIT_POINTS, RIM_POINTS, WORKER_POINTS, TAKEOVER_POINTS, RECLAIM_POINTS))
            return Trigger(self._chance.choice(points), "", max(1, self._nth(30)), what, action)
        calls = sorted({*COMMIT_CALLS, *TAKEOVER_CALLS, "link", "mkdir", "flock"})
        return Trigger(
            self._chance.choice(calls),
            self._chance.choice(("log", "pool", "loop")),
            max(1, self._nth(30)),
            what,
            action,
        )

    # -- what happens -------------------------------------------------------------------------------------------------

    def _back_s(self) -> float:
        return self._chance.choice((0.05, 0.5, 2.0, 6.0, 20.0, 60.0))

    def _pause_s(self) -> float:
        """Short, past the lease and the heartbeat, past the workers' patience, past keepalive."""
        return self._chance.choice((1.0, 9.0, 12.0, 14.0, 18.0, 25.0, 34.0, 39.0, 45.0, 70.0))

    def _kill(self) -> tuple[str, Action]:
        back_s, silently = self._back_s(), self._chance.random() < 0.2
        return "kill", lambda world, process: world.kill(process, back_s, silently)

    def _cut(self) -> tuple[str, Action]:
        back_s, everything = self._back_s(), self._chance.random() < 0.5

        def act(world: World, process: SimProcess) -> None:
            hosts = {one.host for one in world.queues} if everything else {process.host}
            world.power_cut(hosts, back_s)

        return "power cut", act

    def _stop(self) -> tuple[str, Action]:
        seconds = self._pause_s()
        return "pause", lambda world, process: world.pause(process, seconds)

    def _stop_then(self, second: Action) -> tuple[str, Action]:
        """A pause, and a moment around its end, in which the taker meets its own fate."""
        seconds = self._chance.choice((11.0, 12.0, 14.0, 16.0, 20.0, 30.0, 38.0))
        after_s = seconds + self._chance.choice((-2.0, -0.2, 0.01, 0.1, 0.5, 2.0, 10.0))

        def act(world: World, process: SimProcess) -> None:
            world.pause(process, seconds)

            def then() -> None:
                others = [one for one in world.queues if one is not process]
                if others and not world.quiet:
                    second(world, self._chance.choice(others))

            world.later(after_s, then)

        return "pause, then more", act

    def _error(self) -> tuple[str, Action]:
        calls = self._chance.choice((1, 1, 1, 2, 4))
        return "disk error", lambda world, process: world.disk_error(calls)

    # -- themes -------------------------------------------------------------------------------------------------------

    def _pause(self) -> list[Trigger]:
        second = self._chance.choice((self._kill, self._cut, self._kill, self._stop))()[1]
        found = [self._in_commit(*self._stop_then(second))]
        for _ in range(self._chance.choice((0, 0, 1, 2))):
            found.append(self._in_commit(*self._stop()))
        if self._chance.random() < 0.3:
            found.append(self._in_takeover(*self._kill(), first=True))
        return found

    def _takeover(self) -> list[Trigger]:
        found = [self._in_commit(*self._chance.choice((self._kill, self._kill, self._cut))())]
        for _ in range(self._chance.choice((1, 2, 2, 3))):
            found.append(self._in_takeover(*self._chance.choice((self._kill, self._kill, self._cut, self._stop))()))
        return found

    def _reclaim(self) -> list[Trigger]:
        found = [self._in_reclaim(*self._chance.choice((self._kill, self._kill, self._cut, self._stop))())]
        for _ in range(self._chance.choice((1, 2))):
            found.append(self._in_commit(*self._chance.choice((self._kill, self._kill, self._cut))()))
        return found

    def _power(self) -> list[Trigger]:
        found = [self._in_commit(*self._cut())]
        for _ in range(self._chance.choice((0, 1, 2))):
            where = self._chance.choice((self._in_commit, self._in_takeover, self._in_reclaim, self._anywhere))
            found.append(where(*self._cut()))
        return found

    def _disk(self) -> list[Trigger]:
        call = self._chance.choice(("fdatasync", "fdatasync", "write", "fsync", "fsyncdir", "create"))
        kind = self._chance.choice(("log", "log", "pool"))
        found = [Trigger(call, kind, max(1, self._nth(30)), *self._error())]
        found.append(self._anywhere(*self._chance.choice((self._cut, self._cut, self._kill))()))
        if self._chance.random() < 0.5:
            found.append(self._in_commit(*self._kill()))
        return found

    def _streams(self) -> list[Trigger]:
        part = self._chance.choice((0.3, 1.0))

        def reset(world: World, process: SimProcess) -> None:
            world.reset_streams(part)

        found = [
            Trigger(self._chance.choice(RIM_POINTS + COMMIT_POINTS + WORKER_POINTS), "", self._nth(25), "reset", reset)
            for _ in range(self._chance.choice((1, 2, 3, 5)))
        ]
        for _ in range(self._chance.choice((1, 2))):
            points = self._chance.choice((RIM_POINTS, WORKER_POINTS, RIM_POINTS + COMMIT_POINTS))
            what, action = self._chance.choice((self._kill, self._kill, self._stop))()
            found.append(Trigger(self._chance.choice(points), "", max(1, self._nth(25)), what, action))
        return found

    def _late(self) -> list[Trigger]:
        """A frame that its owner writes after the log was taken, of a message that the new owner has refused.

        The producer's stream is reset while the owner sleeps in a commit, and for longer than it offers again there is
        no new owner; then the taker ends, and a third one reads what both have written.
        """
        without_redis = self._chance.random() < 0.5
        nobody_s = self._chance.uniform(17.0, 28.0)
        asleep_s = self._chance.uniform(70.0, 80.0) if without_redis else nobody_s + self._chance.uniform(14.0, 25.0)
        after_s = asleep_s + self._chance.choice((0.3, 1.0, 3.0))
        calls = self._chance.choice(("write", "fdatasync"))

        def act(world: World, process: SimProcess) -> None:
            others = [one for one in world.queues if one is not process]
            if without_redis:
                world.redis("down", 100.0)
            else:
                for other in others:
                    world.kill(other, nobody_s)
            world.pause(process, asleep_s)
            world.later(0.1, lambda: world.reset_streams(1.0))
            world.later(after_s, lambda: self._to_all_others(world, process))

        return [Trigger(calls, "log", 8 + self._nth(60), "pause, then late", act, ".seg")]

    def _to_all_others(self, world: World, process: SimProcess) -> None:
        if not world.quiet:
            for other in [one for one in world.queues if one is not process]:
                world.kill(other, 0.1)

    def _doubt(self) -> list[Trigger]:
        """A frame that was written and not synced, an owner that ends, and then the power."""
        by_error = self._chance.random() < 0.5
        # After an error the owner comes back by itself within 5 s, and has to have its log again before it is dark.
        after_s = self._chance.choice((2.0, 6.0, 6.5, 9.0) if by_error else (0.2, 0.5, 1.0, 2.0, 4.0, 9.0))
        back_s = self._chance.choice((0.05, 0.05, 0.3, 4.0))

        def act(world: World, process: SimProcess) -> None:
            if by_error:
                world.disk_error(1)
            else:
                world.kill(process, back_s)
            world.later(after_s, lambda: self._lights_out(world))

        nth = max(1, self._nth(60))
        found = [Trigger("fdatasync", "log", nth, "error, then dark" if by_error else "kill, then dark", act, ".seg")]
        if self._chance.random() < 0.3:
            found.append(self._in_takeover(*self._kill(), first=True))
        return found

    def _lights_out(self, world: World) -> None:
        if not world.quiet:
            world.power_cut({one.host for one in world.queues}, 0.5)

    def _stale(self) -> list[Trigger]:
        """A former owner that wakes up while nobody else is there, and is asked what it cannot know.

        While it slept its log was taken, and the next owner died between a commit and its receipt.
        """
        asleep_s = self._chance.uniform(17.0, 26.0)
        away_s = self._chance.uniform(6.0, 16.0)

        def die(world: World, process: SimProcess) -> None:
            for other in world.queues:
                if not other.paused:
                    world.kill(other, away_s)

        def act(world: World, process: SimProcess) -> None:
            world.pause(process, asleep_s)
            world.later(0.1, lambda: world.reset_streams(1.0))
            receipt = Trigger(Point.INTAKE_BEFORE_RECEIPT, "", 1, "kill all awake", die)
            world.later(8.5, lambda: world.arm(receipt))

        calls = self._chance.choice(("write", "fdatasync"))
        return [Trigger(calls, "log", 4 + self._nth(40), "pause, then receipt", act, ".seg")]

    def _sleeper(self) -> list[Trigger]:
        """Former owners that wake up with work to give out, just when the next ones have waited long enough for it."""
        found: list[Trigger] = []
        for _ in range(3):
            seconds = self._chance.uniform(29.0, 39.9)
            what = partial(_put_to_sleep, seconds=seconds)
            found.append(Trigger(self._chance.choice(("write", "fdatasync")), "log", 20 + self._nth(90), "pause", what))
        return found

    def _amnesia(self) -> list[Trigger]:
        """A receipt that does not arrive, and owners that end: the first after the message has, the next after it has
        given back the segment that says so. Then the producer offers the message again.
        """
        cut_s = self._chance.uniform(4.0, 12.0)
        first_s = self._chance.choice((0.3, 1.0, 2.0))

        def act(world: World, process: SimProcess) -> None:
            for queue in world.queues:
                for smtpd in world.living("smtpd"):
                    world.partition(queue.host, smtpd.host, cut_s)
            world.later(first_s, lambda: self._all_anew(world))
            world.later(cut_s - 0.3, lambda: self._all_anew(world))

        often = self._chance.choice((1, 2))
        point = Point.INTAKE_BEFORE_RECEIPT
        return [Trigger(point, "", 2 + self._nth(20), "cut off, then kills", act) for _ in range(often)]

    def _all_anew(self, world: World) -> None:
        if not world.quiet:
            for queue in world.queues:
                world.kill(queue, 0.05)

    def _mixed(self) -> list[Trigger]:
        ways = (self._kill, self._cut, self._stop, self._error)
        return [self._anywhere(*self._chance.choice(ways)()) for _ in range(self._chance.choice((2, 3, 4, 6)))]

    # -- at a time ----------------------------------------------------------------------------------------------------

    def _timed(self) -> tuple[float, str, Callable[[World], None]]:
        at_s = self._chance.uniform(0.5, self.active_s)
        draws: tuple[Callable[[], tuple[str, Callable[[World], None]]], ...] = (
            self._some_queue,
            self._some_queue,
            self._some_other,
            self._hangs_up,
            self._redis,
            self._redis,
            self._cut_off,
            self._clock,
            self._tight,
        )
        what, call = self._chance.choice(draws)()
        return at_s, what, call

    def _some_queue(self) -> tuple[str, Callable[[World], None]]:
        what, action = self._chance.choice((self._kill, self._kill, self._cut, self._stop))()
        return f"{what} of some queue", lambda world: self._to_some(world, "queue", action)

    def _some_other(self) -> tuple[str, Callable[[World], None]]:
        role = self._chance.choice(("local", "remote", "remote", "smtpd"))
        what, action = self._chance.choice((self._kill, self._stop))()
        return f"{what} of some {role}", lambda world: self._to_some(world, role, action)

    def _to_some(self, world: World, role: str, action: Action) -> None:
        living = world.living(role)
        if living:
            action(world, self._chance.choice(living))

    def _hangs_up(self) -> tuple[str, Callable[[World], None]]:
        return "SIGTERM", lambda world: self._to_some(world, "queue", lambda of, process: of.terminate(process))

    def _redis(self) -> tuple[str, Callable[[World], None]]:
        what = self._chance.choice(("down", "slow", "flush", "stale"))
        seconds = self._chance.choice((3.0, 15.0, 100.0))
        return f"redis {what}", lambda world: world.redis(what, seconds)

    def _cut_off(self) -> tuple[str, Callable[[World], None]]:
        seconds = self._chance.choice((2.0, 15.0, 45.0))
        kind = self._chance.choice(("local", "remote", "smtpd", "redis", "queue"))

        def call(world: World) -> None:
            queues, others = world.living("queue"), world.living(kind)
            other = "redis" if kind == "redis" else self._chance.choice(others).host if others else ""
            if queues and other:
                world.partition(self._chance.choice(queues).host, other, seconds)

        return f"partition from {kind}", call

    def _clock(self) -> tuple[str, Callable[[World], None]]:
        seconds = self._chance.choice((-30.0, -3.0, 2.0, 8.0))
        return "clock jump", lambda world: self._to_some(world, "queue", lambda of, one: of.jump(one.host, seconds))

    def _tight(self) -> tuple[str, Callable[[World], None]]:
        what = self._chance.choice(("caches", "streams"))
        if what == "caches":
            return "caches dropped", lambda world: world.drop_caches()
        return "streams reset", lambda world: world.reset_streams(0.5)


def _put_to_sleep(world: World, process: SimProcess, seconds: float) -> None:
    world.pause(process, seconds)
