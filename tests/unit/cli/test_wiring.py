"""The table of services becomes processes."""

import itertools
from dataclasses import replace

import pytest

from cli.places import find
from cli.refusal import Refusal
from cli.topology import BY_NAME, SERVICES, STOP_GROUPS, Source, container_environment
from cli.wiring import Launch, Wish, parse_replicas, wire
from runtime.config import Address


def wish(**changes: object) -> Wish:
    given = Wish(
        places=find("/stack", {}),
        environ={"PATH": "/bin", "DNS_SERVERS": "127.0.0.1:53", "INSTANCE": "somebody's", "LOG_FORMAT": ""},
        replicas=parse_replicas("queue=2,remote=3"),
        listen={"smtp": Address("127.0.0.1", 2525), "pop3": Address("127.0.0.1", 2110)},
        drops=True,
        redis_url="redis://127.0.0.1:6379/0",
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def wired(given: Wish) -> dict[str, Launch]:
    numbers = itertools.count(20_000)
    return {launch.name: launch for launch in wire(given, lambda: Address("127.0.0.1", next(numbers)))}


def test_every_replica_is_a_process_of_its_own() -> None:
    names = {"queue-0", "queue-1", "local-0", "remote-0", "remote-1", "remote-2", "pop3-0", "smtpd-0"}
    launches = wired(wish())
    assert set(launches) == names
    addresses = [launch.rpc for launch in launches.values()] + [launch.http for launch in launches.values()]
    assert len(set(addresses)) == 2 * len(names)


def test_workers_know_every_queue_replica() -> None:
    launches = wired(wish())
    both = f"{launches['queue-0'].rpc},{launches['queue-1'].rpc}"
    for name in ("smtpd-0", "local-0", "remote-2"):
        assert launches[name].environment["QUEUE_ADDRS"] == both


def test_a_process_gets_every_variable_of_its_row_and_nobody_elses() -> None:
    ours = {variable.name for service in SERVICES for variable in service.environment}
    for launch in wired(wish()).values():
        row = {variable.name: variable for variable in launch.service.environment}
        assert set(launch.environment) & ours <= set(row)
        # A variable that is passed on and not set stays unset: the service's own default counts.
        required = {name for name, variable in row.items() if variable.source is not Source.PASSED or variable.of}
        assert required <= set(launch.environment)
        assert launch.environment["INSTANCE"] == launch.name
        assert launch.environment["PATH"] == "/bin"


def test_what_the_user_set_is_passed_on_and_nothing_means_the_default() -> None:
    remote = wired(wish())["remote-0"].environment
    assert remote["DNS_SERVERS"] == "127.0.0.1:53"
    assert remote["LOG_FORMAT"] == "qmail"


def test_only_services_without_a_spawner_are_dropped() -> None:
    launches = wired(wish())
    assert launches["queue-0"].uid == 7792
    assert launches["local-0"].uid is None
    assert launches["local-0"].environment["FRONT_UID"] == "7794"


def test_without_uids_of_their_own_all_stay_what_up_is() -> None:
    for launch in wired(wish(drops=False)).values():
        assert launch.uid is None
        assert launch.environment.get("FRONT_UID", "") == ""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("smtpd=2", "at most 1 of smtpd"),
        ("redis=2", "at most 1 of redis"),
        ("queue=17", "at most 16 of queue"),
        ("queue", "write service=number"),
        ("clerk=1", "write service=number"),
        ("queue=-1", "write service=number"),
    ],
)
def test_a_wrong_number_of_replicas_is_named(text: str, named: str) -> None:
    with pytest.raises(Refusal, match=named):
        parse_replicas(text)


def test_every_service_is_stopped_and_the_queue_after_those_that_report_to_it() -> None:
    order = [name for group in STOP_GROUPS for name in group]
    assert sorted(order) == sorted(BY_NAME)
    for service in SERVICES:
        for needed in service.needs:
            if "redis" != needed != "local":
                assert order.index(service.name) < order.index(needed)


def test_in_a_container_peers_are_names() -> None:
    assert container_environment(BY_NAME["smtpd"])["QUEUE_ADDRS"] == "queue:5700"
    assert container_environment(BY_NAME["queue"])["EVENTS_DIR"] == "/state/log/events/queue"
