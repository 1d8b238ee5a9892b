"""tcprules: what a file means, in the order of tcprules(1)."""

import pytest

from services.smtpd import tcprules
from services.smtpd.tcprules import Rule, RulesError


def of(rule: Rule) -> str:
    return ("allow" if rule.allow else "deny") + "".join(f" {name}={value}" for name, value in rule.variables.items())


ORDER = """
joe@127.0.0.1:allow,WHO="info@ip"
joe@=a.host.example:allow,WHO="info@host"
127.0.0.1:allow,WHO="ip"
=a.host.example:allow,WHO="host"
127.0.0.:allow,WHO="three"
127.0.:allow,WHO="two"
127.:allow,WHO="one"
=.host.example:allow,WHO="suffix"
=.example:allow,WHO="shorter suffix"
=:allow,WHO="any host"
:allow,WHO="nothing"
"""


@pytest.mark.parametrize(
    ("ip", "host", "info", "expected"),
    [
        ("127.0.0.1", "a.host.example", "joe", "info@ip"),
        ("127.0.0.2", "a.host.example", "joe", "info@host"),
        ("127.0.0.1", "a.host.example", "jim", "ip"),
        ("127.0.0.2", "A.Host.Example", "", "host"),
        ("127.0.0.2", "b.host.example", "", "three"),
        ("127.0.1.2", "b.host.example", "", "two"),
        ("127.1.1.2", "b.host.example", "", "one"),
        ("10.1.1.2", "b.host.example", "", "suffix"),
        ("10.1.1.2", "b.c.example", "", "shorter suffix"),
        ("10.1.1.2", "b.c.test", "", "any host"),
        ("10.1.1.2", "", "", "nothing"),
    ],
)
def test_the_first_hit_in_the_fixed_order_decides(ip: str, host: str, info: str, expected: str) -> None:
    assert tcprules.parse(ORDER).find(ip, host, info).variables == {"WHO": expected}


RELAY = '# who may relay\n127.:allow,RELAYCLIENT=""\n192.168.1.:allow,RELAYCLIENT=""\n10.0.0.5:deny\n:allow\n'


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("127.0.0.1", "allow RELAYCLIENT="),
        ("127.255.0.9", "allow RELAYCLIENT="),
        ("12.7.0.1", "allow"),
        ("192.168.1.200", "allow RELAYCLIENT="),
        ("192.168.10.1", "allow"),
        ("192.168.100.1", "allow"),
        ("192.168.11.1", "allow"),
        ("10.0.0.5", "deny"),
        ("10.0.0.50", "allow"),
        ("::1", "allow"),
    ],
)
def test_a_prefix_is_whole_numbers(ip: str, expected: str) -> None:
    assert of(tcprules.parse(RELAY).find(ip)) == expected


@pytest.mark.parametrize(
    ("text", "ip", "expected"),
    [
        ("", "192.0.2.1", "allow"),
        (":deny", "192.0.2.1", "deny"),
        ("1.2.3.4-7:deny", "1.2.3.4", "deny"),
        ("1.2.3.4-7:deny", "1.2.3.7", "deny"),
        ("1.2.3.4-7:deny", "1.2.3.8", "allow"),
        ("1.2.3.4-7:deny", "1.2.3.47", "allow"),
        ("1.2.3-5.:deny", "1.2.4.200", "deny"),
        ("1.2.3-5.:deny", "1.2.6.200", "allow"),
        ("1.2.3.250-999:deny", "1.2.3.255", "deny"),
        ("1.2.3.4:deny\n1.2.3.4:allow", "1.2.3.4", "deny"),
        ('1.2.3.4:allow,RELAYCLIENT="@fixme",DATABYTES=/5/', "1.2.3.4", "allow RELAYCLIENT=@fixme DATABYTES=5"),
        ('1.2.3.4:allow,A="x,B=y"  ', "1.2.3.4", "allow A=x,B=y"),
        ('::1:allow,RELAYCLIENT=""\n:deny', "::1", "allow RELAYCLIENT="),
        ("[2001:DB8:0::1]:deny", "2001:db8::1", "deny"),
        ("2001:db8::/32:deny", "2001:db8:1::1", "deny"),
        ('10.0.0.0/8:deny\n10.1.0.0/16:allow,A=""', "10.1.2.3", "allow A="),
        ("10.0.0.0/8:deny\n10.1.2.3:allow", "10.1.2.3", "allow"),
        ("::ffff:1.2.3.4:deny", "1.2.3.4", "deny"),
    ],
)
def test_a_line_means(text: str, ip: str, expected: str) -> None:
    assert of(tcprules.parse(text).find(ip)) == expected


def test_an_ipv4_peer_within_ipv6_is_an_ipv4_peer() -> None:
    assert tcprules.plain("::ffff:127.0.0.1") == "127.0.0.1"
    assert tcprules.plain("::FFFF:7F00:1") == "127.0.0.1"
    assert tcprules.plain("fe80::1%eth0") == "fe80::1"
    assert tcprules.plain("127.0.0.1") == "127.0.0.1"


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3.4:alow",
        '1.2.3.4:allow RELAYCLIENT=""',
        '1.2.3.4:allow,RELAYCLIENT="x',
        '1.2.3.4:allow,="x"',
        '1.2.3.4:allow,DATABYTES="lots"',
        "1.2.3.7-4:allow",
        "10.0.0.1/8:allow",
        "0-255.0-255.0-255.:allow",
    ],
)
def test_a_mistake_names_its_line(text: str) -> None:
    with pytest.raises(RulesError, match=r"^line 3: "):
        tcprules.parse(f"# a comment\n127.:allow\n{text}\n")


def test_lines_that_can_never_match_are_doubted() -> None:
    doubts = tcprules.parse(
        "192.168.1:allow\nno colon\n=host.example:deny\njoe@1.2.3.4:deny\n10.:allow\n1.2.3.4-9:deny\n"
    ).doubts
    assert [doubt.partition(":")[0] for doubt in doubts] == ["line 1", "line 2", "line 3", "line 4"]
