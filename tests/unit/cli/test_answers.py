"""What the commands print, from values."""

import json

from cli import exposition, settings, trace, welcome
from cli.supervisor import BACK_OFF_LAST_S, back_off
from mail.ids import child_id, make_id
from runtime.config import Address

ONE = make_id(1_795_361_237_000, b"0123456789")
CHILD = child_id(ONE, 0, 1, "a@b.test")
OTHER = make_id(1_795_361_237_000, b"9876543210")


def record(time: str, service: str, **fields: object) -> trace.Record:
    whole = {"time": time, "service": service, **fields}
    return trace.Record(time, service, whole, json.dumps(whole))


def test_a_trace_follows_bounces_and_forwards_and_nobody_elses_message() -> None:
    records = [
        record("3", "queue-0", event="end msg", msg=CHILD),
        record("1", "smtpd-0", event="accepted", msg=ONE),
        record("2", "queue-0", event="bounce msg", msg=ONE, bounce=CHILD),
        record("2", "queue-0", event="new msg", msg=OTHER),
    ]
    found = sorted(trace.related(ONE, records), key=trace.Record.key)
    assert [one.fields["event"] for one in found] == ["accepted", "bounce msg", "end msg"]


def test_a_child_is_found_by_its_parents_first_characters() -> None:
    assert CHILD[: trace._FAMILY_CHARACTERS] == ONE[: trace._FAMILY_CHARACTERS]


def test_a_traced_event_is_one_line_whatever_it_quotes() -> None:
    shown = trace.written(record("2026-11-22T15:00:00.000Z", "queue-0", event="delivery", msg=ONE, report="a b\nc"))
    assert shown == f'2026-11-22T15:00:00.000Z queue-0 delivery: msg={ONE} report="a b\\nc"'


def test_many_pages_of_metrics_become_one() -> None:
    page = '# HELP a_total Things\n# TYPE a_total counter\na_total 1.0\n# TYPE b gauge\nb{x="1 2"} 2.0\n'
    merged = exposition.merge({"queue-0": page, "remote-0": page})
    assert merged.splitlines() == [
        "# HELP a_total Things",
        "# TYPE a_total counter",
        'a_total{service="queue-0"} 1.0',
        'a_total{service="remote-0"} 1.0',
        "# TYPE b gauge",
        'b{service="queue-0",x="1 2"} 2.0',
        'b{service="remote-0",x="1 2"} 2.0',
    ]


def test_a_histogram_stays_under_its_type() -> None:
    page = '# TYPE h histogram\nh_bucket{le="1.0"} 1.0\nh_count 1.0\nh_sum 0.5\n# TYPE h_created gauge\nh_created 9.0\n'
    merged = exposition.merge({"a": page, "b": page}).splitlines()
    assert merged.index('h_sum{service="b"} 0.5') < merged.index("# TYPE h_created gauge")


def test_the_ready_line_names_what_is_served() -> None:
    where = {"metrics": Address("::1", 9464), "smtp": Address("127.0.0.1", 2525)}
    assert settings.ready_line(where) == "ready smtp=127.0.0.1:2525 metrics=[::1]:9464"


def test_the_first_death_is_answered_at_once_and_the_later_ones_ever_more_slowly() -> None:
    delays = [back_off(deaths) for deaths in range(1, 30)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] == BACK_OFF_LAST_S


def test_the_lines_to_paste_reach_a_server_that_listens_everywhere() -> None:
    told = welcome.Welcome("m.test", "secret", "/stack/demo.password", "python3")
    shown = welcome.lines(told, {"smtp": Address("0.0.0.0", 25), "pop3": Address("::", 110)})
    assert 'SMTP("127.0.0.1", 25' in shown[2]
    assert 'POP3("::1", 110)' in shown[4]
