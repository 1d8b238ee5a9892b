"""What qmail-showctl says is what the services read."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mail.limits import MESSAGE_MAX_OCTETS
from programs.showctl import TABLE, Idle, Number
from runtime.controls import Controls
from services.local import limits as program_limits
from services.local.config import CONCURRENCY_LOCAL
from services.queue.config import read_rules
from services.remote.config import SLOTS_MAX, RemoteControls
from services.smtpd import limits

ROOT = Path(__file__).resolve().parents[3]

# Every reader of the control directory, with a hook that says which files it opens.
_READERS = """
import os, sys
directory = sys.argv[1]
opened = set()
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(directory + "/"):
        opened.add(os.path.basename(arguments[0]))
sys.addaudithook(hook)
from runtime.clock import SystemClock
from runtime.controls import Controls
from services.local.config import Rules
from services.local import limits
from services.queue.config import read_rules
from services.remote.config import RemoteControls
from services.smtpd.controls import CurrentRules
controls = Controls(directory)
Rules(directory)
limits.read(controls)
read_rules(controls, 1.0)
RemoteControls.read(controls)
CurrentRules(directory, SystemClock(), None)
print(*sorted(opened))
"""
# In programs a control file's name is a constant in a call of one of these.
_READING = {"line", "control_text", "text", "integer", "listing", "mapping"}


def show(control: Path) -> tuple[int, list[str]]:
    ran = subprocess.run(
        [ROOT / "bin" / "qmail-showctl"],
        env={**os.environ, "SEAPOST_CONTROL": str(control)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ran.stderr == ""
    return ran.returncode, ran.stdout.splitlines()


@pytest.fixture
def control(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "me").write_text("mail.d.test\n")
    return tmp_path / "control"


def test_every_file_that_a_service_reads_is_in_the_table(control: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _READERS, control], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert ran.returncode == 0, ran.stderr
    opened = set(ran.stdout.split())
    assert opened - set(TABLE) == set()
    named = {name for path in (ROOT / "programs").glob("*.py") for name in constants(path)}
    assert {"me", "idhost", "smtpgreeting", "badmailfrom"} <= named
    idle = {name for name, kind in TABLE.items() if isinstance(kind, Idle)}
    assert set(TABLE) - idle == opened | named


def constants(path: Path) -> set[str]:
    """The names of control files in a program."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            found |= {one.value for one in node.args[:1] if called in _READING and isinstance(one, ast.Constant)}
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            found |= {node.slice.value} if ast.unparse(node.value) == "names" else set()
    if path.name == "completion.py":
        found |= {"defaulthost", "defaultdomain", "plusdomain"}
    return {name for name in found if isinstance(name, str)}


def test_the_defaults_are_those_of_the_services(control: Path) -> None:
    controls = Controls(str(control))
    rules = read_rules(controls, 1.0)
    remote = RemoteControls.read(controls)
    programs = program_limits.read(controls)
    defaults = {
        "concurrencyincoming": limits.CONNECTIONS_MAX,
        "concurrencylocal": CONCURRENCY_LOCAL,
        "concurrencyperip": limits.CONNECTIONS_PER_IP_MAX,
        "concurrencyremote": remote.concurrencyremote,
        "databytes": MESSAGE_MAX_OCTETS,
        "delaywarning": rules.delaywarning_s,
        "outputbytes": programs.output,
        "queuelifetime": int(rules.lifetime_s),
        "timeoutconnect": remote.timeoutconnect_s,
        "timeoutprogram": programs.wall_s,
        "timeoutremote": remote.timeoutremote_s,
        "timeoutsmtpd": limits.TIMEOUT_S,
    }
    assert {name: kind.default for name, kind in TABLE.items() if isinstance(kind, Number)} == defaults
    assert show(control)[1][3] == f"silent concurrency limit: {SLOTS_MAX}."


def test_it_says_what_qmails_says_of_qmails_files(control: Path) -> None:
    for name, content in {
        "badmailfrom": "@spam.test\n# no\n\nx@y.test\n",
        "concurrencylocal": "25\n",
        "locals": "d.test\ne.test\n",
        "rcpthosts": "d.test\n",
        "virtualdomains": "v.test:bob\n",
        "defaultdomain": "d.test \t\n",
        "strange": "",
        "databytes": "0\n",
        "timeoutremote": "words\n",
        "helohost": "h\x01\xe9\n",
        "morercpthosts": "f.test\n",
        "morercpthosts.cdb": "x",
    }.items():
        (control / name).write_text(content)
    status, lines = show(control)
    assert status == 0
    text = "\n".join(lines) + "\n"
    for wanted in (
        f"qmail home directory: {control.parent}.\nuser-ext delimiter: -.\npaternalism (in decimal): 2.\n",
        "\n\nbadmailfrom: \n@spam.test not accepted in MAIL FROM.\nx@y.test not accepted in MAIL FROM.\n\n",
        "\n\nbouncefrom: (Default.) Bounce user name is MAILER-DAEMON.\n\n",
        "\n\nbouncehost: (Default.) Bounce host name is mail.d.test.\n\n",
        "\n\nconcurrencylocal: Local concurrency is 25.\n\n",
        "\n\nlocals: \nMessages for d.test are delivered locally.\nMessages for e.test are delivered locally.\n\n",
        "\n\nrcpthosts: \nSMTP clients may send messages to recipients at d.test.\n\n",
        "\n\nmorercpthosts: \nSMTP clients may send messages to recipients at f.test.\n\n",
        "\n\nmorercpthosts.cdb: Not used: morercpthosts itself is read.\n\n",
        "\n\nvirtualdomains: \nVirtual domain: v.test:bob\n\n",
        "\n\ndefaultdomain: Default domain name is d.test.\n\n",
        "\n\ndatabytes: SMTP DATA limit is 67108864 bytes.\n\n",
        "\n\ntimeoutremote: Oops! Trouble reading this file.\n\n",
        "\n\nhelohost: SMTP client HELO host name is h??.\n\n",
        "\n\nme: My name is mail.d.test.\n\n",
        "\n\nstrange: I have no idea what this file does.\n",
    ):
        assert wanted in text, wanted


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    status, lines = show(tmp_path / "none")
    assert status == 111
    assert lines[-1] == f"Oops! Unable to read {tmp_path / 'none'}."
