"""`bin/seapost up` itself: one at a time, honest about mistakes, with and without Redis, with several replicas."""

import signal
from collections import Counter
from pathlib import Path

from runtime.config import EXIT_CONFIG, EXIT_TEMPORARY
from tests.conftest import RedisServer, free_port
from tests.harness import maildir, sink
from tests.harness.stack import Stack, running
from tests.harness.walk import mail
from tests.integration.conftest import TIME_SCALE, house_of

SCALED = {"TIME_SCALE": TIME_SCALE}


def test_a_second_up_is_refused_and_names_the_first(stack: Stack) -> None:
    assert stack.process
    done = stack.run("up")
    assert done.returncode == EXIT_TEMPORARY
    assert f"pid {stack.process.pid} " in done.stderr


def test_every_mistake_is_named_at_once(state: Path) -> None:
    wrong = {"TIME_SCALE": "soon", "SMTP_PORT": "99999", "LOG_FORMAT": "xml"}
    stack = Stack(state, environment=wrong)
    done = stack.run("up")
    assert done.returncode == EXIT_CONFIG
    assert all(f"{name}={value!r}" in done.stderr for name, value in wrong.items()), done.stderr


def test_what_a_service_refuses_ends_the_start(state: Path) -> None:
    """Mistakes that only a service can see: both variables of remote are named, with what to do."""
    wrong = {"DNS_SERVERS": "nowhere", "REMOTE_ALLOW_NETS": "300.0.0.0/8"}
    stack = Stack(state, environment=wrong)
    stack.prepare()
    stack.launch()
    assert stack.wait_end() == EXIT_CONFIG
    said = stack.said.find("^seapost: ")
    assert [line.split()[4].partition("=")[0] for line in said] == list(wrong), stack.said.tail()
    assert not stack.said.find("Traceback")


def test_a_control_file_that_makes_no_sense_ends_the_start(state: Path) -> None:
    stack = Stack(state, controls={"tcp.smtp": "127.:perhaps\n"})
    stack.prepare()
    stack.launch()
    assert stack.wait_end() == EXIT_CONFIG
    assert stack.said.find(rf"^seapost: .*{state}/control/tcp\.smtp"), stack.said.tail()
    assert not stack.said.find("Traceback")


def test_the_operator_s_hangup_is_obeyed(stack: Stack) -> None:
    """A domain becomes ours, and ceases to be: locals and rcpthosts are read again."""
    house = house_of(stack)
    locals_before, hosts_before = ((stack.directory / "control" / name).read_text() for name in ("locals", "rcpthosts"))
    stack.control("locals", f"{locals_before}new.example\n")
    stack.control("rcpthosts", f"{hosts_before}new.example\n")
    stack.hangup("smtpd-0", "queue-0", "local-0", "remote-0")
    message = house.send(mail("new domain"), "demo@new.example")
    house.wait_idle()
    assert house.copies(message)
    stack.control("locals", locals_before)
    stack.control("rcpthosts", hosts_before)
    stack.hangup("smtpd-0", "queue-0", "local-0", "remote-0")


def test_mail_goes_on_without_redis(stack: Stack) -> None:
    house = house_of(stack)
    since = stack.mark()
    stack.kill("redis-0")
    message = house.send(mail("no redis"))
    house.wait_idle()
    assert house.copies(message)
    stack.said.wait(r"^up: redis-0 was ended by SIGKILL", since)
    stack.said.wait(r"^queue-0: fence answers", since)


def test_no_redis_at_all_is_no_trouble(state: Path) -> None:
    nowhere = {**SCALED, "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with running(Stack(state, environment=nowhere)) as stack:
        house = house_of(stack)
        message = house.send(mail("alone"))
        house.wait_idle()
        assert house.copies(message)
        assert not (state / "run" / "redis-0.pid").exists()


def test_a_redis_that_exists_is_used(state: Path, redis_server: RedisServer) -> None:
    with running(Stack(state, environment={**SCALED, "REDIS_URL": redis_server.url})) as stack:
        assert not (state / "run" / "redis-0.pid").exists()
        house = house_of(stack)
        message = house.send(mail("with redis"))
        house.wait_idle()
        assert house.copies(message)


def test_mail_that_is_queued_survives_a_restart(state: Path) -> None:
    """Stopped with mail for another host in the queue, and mail for nobody who is at home; started again; delivered."""
    with sink.running(RCPT="450 4.2.1 not now") as world:
        routes = {"smtproutes": f"far.example:127.0.0.1:{world.port}\n"}
        stack = Stack(state, environment=SCALED, controls=routes)
        with running(stack):
            house = house_of(stack)
            since = stack.mark()
            house.send(mail("over night"), "friend@far.example", sender=house.address)
            stack.said.wait("deferral: ", since)
            before = stack.queued()
            assert stack.stop() == 0
        assert not list((state / "run").glob("*.pid"))
        world.replies["RCPT"] = "250 2.1.5 good morning"
        with running(stack):
            stack.wait_idle()
        assert len(world.taken) == 1
        assert len(before) == 1


def test_both_queues_and_both_remotes_work(state: Path) -> None:
    with sink.running() as world:
        routes = {"smtproutes": f"far.example:127.0.0.1:{world.port}\n"}
        with running(Stack(state, environment=SCALED, replicas="queue=2,remote=2", controls=routes)) as stack:
            house = house_of(stack)
            stack.said.wait(r"^queue-0: worker remote-1/")
            stack.said.wait(r"^queue-1: worker remote-0/")
            for number in range(20):
                house.send(mail(f"here {number}"))
                house.send(mail(f"there {number}"), "friend@far.example", sender=house.address)
            house.wait_idle()
            assert len(maildir.files(stack.home("demo"))) == 20
            assert len(world.taken) == 20
            took = Counter(event["service"] for event in stack.events("queue") if event["event"] == "new msg")
            assert set(took) == {"queue-0", "queue-1"}
            assert stack.queued() == []


def test_sigterm_ends_everything_in_order(state: Path) -> None:
    stack = Stack(state, environment=SCALED)
    with running(stack):
        pids = [int(path.read_text()) for path in (state / "run").glob("*.pid")]
        assert len(pids) == 6
        assert stack.stop() == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    said = [line for line in stack.said.lines if line.endswith("status: exiting")]
    assert said[0].startswith("smtpd-0"), said
    assert said[-1].startswith("queue-0"), said


def test_a_dead_service_is_started_again(stack: Stack) -> None:
    house = house_of(stack)
    for service in ("smtpd-0", "local-0", "remote-0", "pop3-0", "queue-0"):
        since = stack.mark()
        before = stack.pid(service)
        stack.signal(service, signal.SIGKILL)
        stack.wait_started(service, since)
        assert stack.pid(service) not in (0, before)
    message = house.send(mail("all of them new"))
    house.wait_idle()
    assert house.copies(message)
