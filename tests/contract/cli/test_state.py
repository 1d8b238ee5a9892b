"""A state directory on a real disk: what is missing is made, what is there stays."""

import os
import ssl
import stat
from pathlib import Path

import pytest

from cli import accounts, certs, configfast, lock, state
from cli.places import Places, find
from cli.refusal import Refusal
from cli.topology import ALIAS_UID, ROLES, uid_of_role
from runtime.clock import SystemClock
from runtime.config import SERVER_NAME
from runtime.passwords import check
from runtime.rpc import Identity


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return find(str(tmp_path / "stack"), {})


def prepare(places: Places) -> state.Prepared:
    return state.prepare(places, {"MAIL_NAME": "mail.example.test"}, state.Owners.choose(drops=True))


def snapshot(places: Places) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(Path(places.state).rglob("*")):
        facts = path.lstat()
        found[str(path)] = (facts.st_mode, facts.st_ino, path.read_bytes() if path.is_file() else b"")
    return found


def test_a_first_start_makes_everything_and_a_second_nothing(places: Places) -> None:
    assert prepare(places).demo_password
    before = snapshot(places)
    assert prepare(places).demo_password is None
    assert snapshot(places) == before


def test_what_the_admin_wrote_is_never_changed(places: Places) -> None:
    control = Path(places.control)
    control.mkdir(parents=True)
    (control / "me").write_text("kept.example.test\n")
    (control / "tcp.smtp").write_text(":deny\n")
    assert prepare(places).mail_name == "kept.example.test"
    assert (control / "tcp.smtp").read_text() == ":deny\n"
    assert not (control / "rcpthosts").exists()


def test_control_files_are_config_fasts(places: Places) -> None:
    prepare(places)
    control = Path(places.control)
    assert (control / "me").read_text() == "mail.example.test\n"
    assert (control / "defaultdomain").read_text() == "example.test\n"
    assert (control / "plusdomain").read_text() == "example.test\n"
    assert (control / "rcpthosts").read_text() == (control / "locals").read_text() == "mail.example.test\n"
    assert 'RELAYCLIENT=""' in (control / "tcp.smtp").read_text()


def test_config_fast_appends_a_name_once(places: Places) -> None:
    for name in ("a.test", "b.test", "a.test"):
        configfast.write(places.control, name)
    assert (Path(places.control) / "rcpthosts").read_text() == "a.test\nb.test\n"
    assert (Path(places.control) / "me").read_text() == "a.test\n"


def test_the_first_accounts_password_opens_its_hash(places: Places) -> None:
    password = prepare(places).demo_password
    assert password
    kept = Path(places.demo_password)
    assert kept.read_text() == f"{password}\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    shadow = Path(places.accounts, "shadow")
    assert stat.S_IMODE(shadow.stat().st_mode) == 0o600
    stored = shadow.read_text().split(":")[1]
    assert check(password.encode(), stored, stored)
    assert not check(b"wrong", stored, stored)


def test_an_account_owns_its_home(places: Places) -> None:
    prepare(places)
    for name in ("demo", "second"):
        if name != "demo":
            accounts.add(places, name)
        fields = next(
            line for line in Path(places.accounts, "passwd").read_text().splitlines() if line.startswith(name)
        )
        home = os.stat(os.path.join(places.homes, name))
        assert home.st_uid == int(fields.split(":")[2])
        assert stat.S_IMODE(home.st_mode) == 0o700


def test_a_second_account_of_the_same_name_is_refused(places: Places) -> None:
    prepare(places)
    with pytest.raises(Refusal, match="already"):
        accounts.add(places, "demo")
    with pytest.raises(Refusal, match="not a user name"):
        accounts.add(places, "../demo")


def test_the_hosts_accounts_are_left_alone(tmp_path: Path) -> None:
    host = tmp_path / "etc"
    host.mkdir()
    places = find(None, {"SEAPOST_STATE": str(tmp_path / "stack"), "ACCOUNTS_DIR": str(host)})
    assert prepare(places).demo_password is None
    assert list(host.iterdir()) == []
    # Nobody is there to forward to: postmaster's mail is kept.
    assert Path(places.alias, ".qmail-postmaster").read_text() == "./Maildir/\n"
    assert Path(places.alias, "Maildir", "new").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving away wants root")
def test_the_aliases_belong_to_the_account_alias_where_there_is_one(tmp_path: Path) -> None:
    host = tmp_path / "etc"
    host.mkdir()
    places = find(None, {"SEAPOST_STATE": str(tmp_path / "stack"), "ACCOUNTS_DIR": str(host)})
    prepare(places)
    kept = Path(places.alias, "Maildir", "new")
    assert kept.stat().st_uid == Path(places.alias).stat().st_uid == ALIAS_UID
    (host / "passwd").write_text("alias:x:64010:64010::/var/qmail/alias:/bin/true\n")  # qmail is installed later
    prepare(places)
    assert kept.stat().st_uid == Path(places.alias).stat().st_uid == 64_010


def test_postmaster_is_somebody(places: Places) -> None:
    prepare(places)
    for alias in ("postmaster", "mailer-daemon", "root"):
        assert Path(places.alias, f".qmail-{alias}").read_text() == "&demo\n"


def test_every_key_is_its_roles_own(places: Places) -> None:
    prepare(places)
    for role in ROLES:
        key = os.stat(os.path.join(places.tls, role, "key.pem"))
        assert stat.S_IMODE(key.st_mode) == 0o600
        assert key.st_uid == (uid_of_role(role) if os.geteuid() == 0 else os.geteuid())
        assert Identity.load(places.tls, role).ca


def test_certificates_prove_themselves_to_openssl(places: Places) -> None:
    certs.ensure(places.tls, SystemClock())
    ends = {}
    for role, purpose in (("queue", ssl.Purpose.CLIENT_AUTH), ("smtpd", ssl.Purpose.SERVER_AUTH)):
        context = ssl.create_default_context(purpose, cafile=os.path.join(places.tls, "ca.pem"))
        context.load_cert_chain(
            os.path.join(places.tls, role, "certificate.pem"), os.path.join(places.tls, role, "key.pem")
        )
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        ends[role] = context
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ends["queue"].wrap_bio(to_server, to_client, server_side=True)
    client = ends["smtpd"].wrap_bio(to_client, to_server, server_hostname=SERVER_NAME)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert (("commonName", "smtpd"),) in server.getpeercert()["subject"]  # type: ignore[index]


def test_certs_keeps_what_is_good_and_renews_when_told(places: Places) -> None:
    assert certs.ensure(places.tls, SystemClock()) == list(ROLES)
    ca = Path(places.tls, "ca.pem").read_bytes()
    assert certs.ensure(places.tls, SystemClock()) == []
    Path(places.tls, "remote", "key.pem").write_text("torn")
    assert certs.ensure(places.tls, SystemClock()) == ["remote"]
    assert certs.ensure(places.tls, SystemClock(), renew=True) == list(ROLES)
    assert Path(places.tls, "ca.pem").read_bytes() == ca


class InTenYears(SystemClock):
    """A clock that shows a day on which the certificates made today are nearly over."""

    def wall_ms(self) -> int:
        return super().wall_ms() + (10 * 365 - 30) * 86_400_000


def test_a_certificate_that_ends_soon_is_made_anew(places: Places) -> None:
    certs.ensure(places.tls, SystemClock())
    assert certs.ensure(places.tls, InTenYears()) == list(ROLES)


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(Refusal, match=r"/proc/nowhere.*--state DIR"), lock.hold(find("/proc/nowhere", {})):
        pass
