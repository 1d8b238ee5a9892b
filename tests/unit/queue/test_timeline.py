"""The time of a log over histories of a wall clock that lies: jumps, restarts, reboots, other machines."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.routing import Channel
from services.queue import retry, timeline
from services.queue.timeline import (
    CLOCKS_DIFFER_MS,
    GAP_MAX_MS,
    GAPS_MAX,
    GRACE_S,
    RECORD_EVERY_MS,
    Gap,
    Reading,
    Timeline,
)

HOUR_MS = 3_600_000
TEN_YEARS_MS = 87_660 * HOUR_MS
WEEK_S = 604_800
WALL = 1_700_000_000_000
GRACE_MS = GRACE_S * 1_000


@dataclass
class World:
    """A log and the machines that have it, one after the other. `passed_ms` is what truly passed; only tests know."""

    wall_ms: int = WALL
    boot_ms: int = 5_000
    boot: int = 0
    passed_ms: int = 0
    strangers: int = 0  # how often the log went over a gap that nothing confirms
    line: Timeline = field(init=False)

    def __post_init__(self) -> None:
        self.line = timeline.begin(self.reading())

    def reading(self) -> Reading:
        return Reading(self.wall_ms, self.boot_ms, f"{self.boot:032x}")

    def now(self) -> int:
        return self.line.now_ms(self.boot_ms)

    def run(self, ms: int) -> None:
        """The owner lives, and records every now and then."""
        kept = ms // RECORD_EVERY_MS * RECORD_EVERY_MS
        self.elapse(kept)
        if kept:
            self.record()
        self.elapse(ms - kept)

    def elapse(self, ms: int) -> None:
        self.wall_ms += ms
        self.boot_ms += ms
        self.passed_ms += ms

    def jump(self, ms: int) -> None:
        """Somebody sets the clock, while the owner runs or while it does not."""
        self.wall_ms = max(0, self.wall_ms + ms)

    def record(self) -> None:
        self.line = self.line.at(self.reading())

    def restart(self, ms: int) -> None:
        self.elapse(ms)
        self.line = self.resumed()

    def reboot(self, ms: int) -> None:
        """The machine is off for so long, or another one takes the log."""
        self.elapse(ms)
        self.boot += 1
        self.boot_ms = 3_000
        self.strangers += 1
        self.line = self.resumed()

    def resumed(self) -> Timeline:
        last = timeline.read(timeline.write(self.line))
        assert last == self.line
        return timeline.resume(last, self.reading(), GRACE_MS)


MOMENTS = st.integers(0, 40 * HOUR_MS)
JUMPS = st.one_of(
    st.sampled_from([TEN_YEARS_MS, -TEN_YEARS_MS, 26 * TEN_YEARS_MS // 10, HOUR_MS, -HOUR_MS]),
    st.integers(-TEN_YEARS_MS, TEN_YEARS_MS),
)
STEPS = st.one_of(
    st.tuples(st.just("run"), MOMENTS),
    st.tuples(st.just("jump"), JUMPS),
    st.tuples(st.just("restart"), MOMENTS),
    st.tuples(st.just("reboot"), MOMENTS),
    st.tuples(st.just("record"), st.just(0)),
)


def do(world: World, step: tuple[str, int]) -> None:
    name, ms = step
    if name == "record":
        world.record()
    else:
        getattr(world, name)(ms)


@given(st.lists(STEPS, max_size=25))
def test_the_time_of_a_log_never_goes_back(steps: list[tuple[str, int]]) -> None:
    """But for what passed after the last record of a machine that was cut off with its clock set back."""
    world = World()
    before = world.now()
    for step in steps:
        do(world, step)
        assert world.now() >= before - (RECORD_EVERY_MS if step[0] == "reboot" else 0)
        before = world.now()


@given(st.lists(STEPS, max_size=25), st.lists(STEPS, max_size=60))
def test_no_message_is_taken_for_older_than_it_is(before: list[tuple[str, int]], after: list[tuple[str, int]]) -> None:
    """But for a minute at each reboot, which clocks of honest machines may differ by."""
    world = World()
    for step in before:
        do(world, step)
    arrived, passed, strangers = world.now(), world.passed_ms, world.strangers
    for step in after:
        do(world, step)
        age = world.line.age_ms(arrived, world.now())
        assert 0 <= age <= world.passed_ms - passed + CLOCKS_DIFFER_MS * (world.strangers - strangers)


@given(st.lists(STEPS, max_size=25), st.lists(STEPS.filter(lambda step: step[0] != "reboot"), max_size=25))
def test_within_one_boot_time_is_exact_whatever_the_wall_does(
    before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    world = World()
    for step in before:
        do(world, step)
    arrived, passed = world.now(), world.passed_ms
    for step in after:
        do(world, step)
    assert world.now() - arrived == world.passed_ms - passed
    assert world.line.age_ms(arrived, world.now()) == world.passed_ms - passed


@given(st.lists(STEPS, max_size=40))
def test_a_message_that_lives_is_tried_again_within_the_longest_gap(steps: list[tuple[str, int]]) -> None:
    world = World()
    arrived = due = world.now()
    longest = retry.longest_gap_ms(Channel.REMOTE, WEEK_S, 1.0)
    for step in steps:
        do(world, step)
        now = world.now()
        born = world.line.born_ms(arrived, now)
        if retry.is_too_old(born, now, WEEK_S, 1.0):
            return
        assert due <= now + longest
        due = retry.next_attempt_ms(born, now, Channel.REMOTE, 1.0)
        assert now < due <= now + longest


@given(st.lists(STEPS, max_size=60))
def test_every_message_ends_once_its_lifetime_has_truly_passed(steps: list[tuple[str, int]]) -> None:
    world = World()
    arrived = world.now()
    for step in steps:
        do(world, step)
    world.run(WEEK_S * 1_000 + 1)
    now = world.now()
    assert world.line.may_expire(now)
    assert retry.is_too_old(world.line.born_ms(arrived, now), now, WEEK_S, 1.0)


@pytest.mark.parametrize("jump", [TEN_YEARS_MS, -TEN_YEARS_MS])
def test_a_jump_of_ten_years_while_the_machine_is_off_makes_everything_due_and_nothing_old(jump: int) -> None:
    world = World()
    arrived = world.now()
    world.run(HOUR_MS)
    born = world.line.born_ms(arrived, world.now())
    due = retry.next_attempt_ms(born, world.now(), Channel.REMOTE, 1.0)
    world.record()
    world.jump(jump)
    world.reboot(300_000)
    assert world.line.age_ms(arrived, world.now()) <= HOUR_MS + CLOCKS_DIFFER_MS
    assert (due <= world.now()) is (jump > 0)
    assert due <= world.now() + retry.longest_gap_ms(Channel.REMOTE, WEEK_S, 1.0)


def test_five_jumps_there_and_back_with_reboots_between_do_not_bounce_the_queue() -> None:
    world = World()
    arrived = world.now()
    for _ in range(5):
        for jump in (TEN_YEARS_MS, -TEN_YEARS_MS):
            world.record()
            world.jump(jump)
            world.reboot(60_000)
            world.jump(jump)
            world.restart(1_000)
            world.jump(-jump)
    now = world.now()
    assert not retry.is_too_old(world.line.born_ms(arrived, now), now, WEEK_S, 1.0)
    assert now - arrived <= 10 * (GAP_MAX_MS + CLOCKS_DIFFER_MS) + world.passed_ms


def test_a_reboot_of_a_minute_leaves_no_gap() -> None:
    world = World()
    world.reboot(CLOCKS_DIFFER_MS)
    assert world.line.gaps == ()
    assert world.now() == WALL + CLOCKS_DIFFER_MS


def test_many_gaps_are_few_and_make_nobody_older() -> None:
    world = World()
    first = world.now()
    for _ in range(3 * GAPS_MAX):
        world.reboot(HOUR_MS)
    assert len(world.line.gaps) == GAPS_MAX
    assert world.line.age_ms(first, world.now()) == 3 * GAPS_MAX * CLOCKS_DIFFER_MS
    assert len(timeline.write(world.line)) < timeline.RECORD_MAX_OCTETS


def test_a_log_without_a_record_lets_nothing_expire_for_a_day() -> None:
    world = World()
    world.line = timeline.resume(None, world.reading(), GRACE_MS)
    assert not world.line.may_expire(world.now())
    world.run(GRACE_MS - 1)
    world.reboot(0)
    assert not world.line.may_expire(world.now())
    world.run(1)
    assert world.line.may_expire(world.now())


def test_a_new_log_needs_no_grace() -> None:
    assert World().line.may_expire(WALL)


def test_a_boottime_that_went_back_is_another_machine_s() -> None:
    """A time namespace may set it off (time_namespaces(7))."""
    world = World()
    world.run(10 * HOUR_MS)
    world.record()
    world.boot_ms = 1_000
    world.elapse(HOUR_MS)
    world.line = world.resumed()
    assert world.line.gaps[0].lost_ms == HOUR_MS - CLOCKS_DIFFER_MS


def test_a_record_survives_what_a_later_version_adds() -> None:
    line = Timeline(Reading(WALL, 7, "a" * 32), WALL + 5, (Gap(3, 4),), 9)
    assert timeline.read(timeline.write(line)) == line
    later = timeline.write(line).replace(b"clock 1", b"clock 2") + b"leap 17\n"
    assert timeline.read(later) == line


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\0" * 400,
        b"\xff" * 100,
        b"seapost clock 1\n",
        b"seapost clock 1\nboot x\nboottime 1\nwall 1\ntime 1\n",
        b"seapost clock 1\nboot " + b"a" * 32 + b"\nboottime 1\nwall -1\ntime 1\n",
        b"seapost clock 1\nboot " + b"a" * 32 + b"\nboottime 1\nwall 1\ntime 9999999999999999\n",
    ],
)
def test_what_is_no_record_is_none(octets: bytes) -> None:
    assert timeline.read(octets) is None


@given(st.binary(max_size=600))
def test_no_octets_break_the_reading(octets: bytes) -> None:
    timeline.read(octets)
    timeline.read(b"seapost clock 1\n" + octets)


def test_a_set_clock_is_seen_and_a_slewed_one_is_not() -> None:
    before = Reading(WALL, 1_000, "0")
    after = replace(before, boot_ms=2_000)
    assert timeline.stepped_ms(before, replace(after, wall_ms=WALL + 1_000)) == 0
    assert timeline.stepped_ms(before, replace(after, wall_ms=WALL + 1_090)) == 0
    assert timeline.stepped_ms(before, replace(after, wall_ms=WALL + 3_000)) == 2_000
    assert timeline.stepped_ms(before, replace(after, wall_ms=WALL - 3_000)) == -4_000
