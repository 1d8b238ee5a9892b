"""The arguments of MAIL and RCPT (RFC 5321 4.1.2), exactly. Pure: text in, an address and parameters or a refusal out.

Two expressions read what nearly every client sends; everything else goes through the parser below them, which is the
grammar. Both must say the same: tests hold them against each other. No address and no parameter leaves here with a
control character, a line end or a byte beyond ASCII in it, nor with one encoded.
"""

import ipaddress
import re
from dataclasses import dataclass

from mail import dsn
from mail.dsn import NO_WISH, Wish
from mail.limits import ADDRESS_MAX_OCTETS

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = rf"{_ATEXT}(?:\.{_ATEXT})*"
# RFC 5321 says letters, digits and hyphens; hosts with an underscore exist and send mail.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_MAIL = re.compile(
    rf"FROM:<((?:{_LOCAL}@{_DOMAIN})?)>(?: SIZE=([0-9]{{1,20}}))?(?: BODY=(?:7BIT|8BITMIME))?\Z", re.IGNORECASE
)
_RCPT = re.compile(rf"TO:<({_LOCAL}@{_DOMAIN})>\Z", re.IGNORECASE)

_DOT_STRING = re.compile(_LOCAL)
_DOMAIN_NAME = re.compile(_DOMAIN)
_QUOTED_STRING = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])*"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_LITERAL = re.compile(r"\[([!-Z^-~]{1,200})\]")
_ROUTE = re.compile(rf"@{_DOMAIN}(?:,@{_DOMAIN})*:")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?\Z")
_DOMAIN_MAX_OCTETS = 255  # RFC 5321 4.5.3.1.2. The 64 of a local part are not held: VERP exceeds them.

_SYNTAX_MAIL = "501 5.5.4 syntax: MAIL FROM:<address> [SIZE=n] [BODY=7BIT|8BITMIME] [RET=FULL|HDRS] [ENVID=xtext]"
_SYNTAX_RCPT = "501 5.5.4 syntax: RCPT TO:<address> [NOTIFY=NEVER|SUCCESS,FAILURE,DELAY] [ORCPT=type;xtext]"
_BAD_SENDER = "553 5.1.7 sorry, that is not an address"
_BAD_RECIPIENT = "553 5.1.3 sorry, that is not an address"
_NOT_ASCII = "553 5.6.7 sorry, addresses beyond ASCII are not taken here"
_UNKNOWN = "555 5.5.4 sorry, a parameter is not known here"
_REPEATED = "501 5.5.4 a parameter was given twice"
_BAD_BODY = "501 5.5.4 BODY is 7BIT or 8BITMIME"
_BAD_SIZE = "501 5.5.4 SIZE is a number of octets"
_BAD_RET = "501 5.5.4 RET is FULL or HDRS"
_BAD_ENVID = "501 5.5.4 ENVID is xtext of printable characters, at most 100 of them"
_BAD_NOTIFY = "501 5.5.4 NOTIFY is NEVER, or some of SUCCESS, FAILURE and DELAY with commas between"
_BAD_ORCPT = "501 5.5.4 ORCPT is an address type, a semicolon and xtext of printable characters, at most 500"


@dataclass(frozen=True, slots=True)
class Sender:
    """What MAIL said: the address ("" is the null sender), the declared size (0 when none), RET and ENVID verbatim."""

    address: str
    size: int = 0
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class Recipient:
    """What RCPT said: the address, and NOTIFY and ORCPT."""

    address: str
    wish: Wish = NO_WISH


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an argument was not taken, as the whole reply."""

    reply: str


def mail(argument: str) -> Sender | Refused:
    """The argument of MAIL (RFC 5321 4.1.1.2, RFC 1870, RFC 6152, RFC 3461)."""
    found = _MAIL.match(argument)
    if found and len(found[1]) <= _DOMAIN_MAX_OCTETS:
        return Sender(found[1], int(found[2] or 0))
    return mail_in_full(argument)


def rcpt(argument: str) -> Recipient | Refused:
    """The argument of RCPT (RFC 5321 4.1.1.3, RFC 3461): quotes are removed; `postmaster` may stand alone."""
    found = _RCPT.match(argument)
    if found and len(found[1]) <= _DOMAIN_MAX_OCTETS:
        return Recipient(found[1])
    return rcpt_in_full(argument)


def mail_in_full(argument: str) -> Sender | Refused:
    """`mail` without its shortcut."""
    split = _after_keyword(argument, "FROM:")
    if split is None:
        return Refused(_SYNTAX_MAIL)
    path, rest = split
    parameters = _parameters(rest)
    if isinstance(parameters, Refused):
        return parameters
    address = "" if path == "" else _mailbox(path)
    if address is None:
        return Refused(_NOT_ASCII if not path.isascii() else _BAD_SENDER)
    body, size = parameters.pop("BODY", "7BIT").upper(), parameters.pop("SIZE", "0")
    ret, envid = parameters.pop("RET", None), parameters.pop("ENVID", None)
    if parameters:
        return Refused(_UNKNOWN)
    if body not in ("7BIT", "8BITMIME"):
        return Refused(_BAD_BODY)
    if not (size.isascii() and size.isdigit() and len(size) <= 20):
        return Refused(_BAD_SIZE)
    if ret is not None and ret.upper() not in (dsn.FULL, dsn.HDRS):
        return Refused(_BAD_RET)
    if envid is not None and not dsn.is_envid(envid):
        return Refused(_BAD_ENVID)
    return Sender(address, int(size), (ret or "").upper(), envid or "")


def rcpt_in_full(argument: str) -> Recipient | Refused:
    """`rcpt` without its shortcut."""
    split = _after_keyword(argument, "TO:")
    if split is None:
        return Refused(_SYNTAX_RCPT)
    path, rest = split
    parameters = _parameters(rest)
    if isinstance(parameters, Refused):
        return parameters
    if not path:
        return Refused(_SYNTAX_RCPT)
    address = path if path.lower() == "postmaster" else _mailbox(path)
    if address is None:
        return Refused(_NOT_ASCII if not path.isascii() else _BAD_RECIPIENT)
    wish = _wish(parameters)
    return wish if isinstance(wish, Refused) else Recipient(address, wish)


def _wish(parameters: dict[str, str]) -> Wish | Refused:
    """NOTIFY and ORCPT (RFC 3461 4.1, 4.2); nothing else may be said of a recipient."""
    if not parameters:
        return NO_WISH
    said, orcpt = parameters.pop("NOTIFY", None), parameters.pop("ORCPT", None)
    notify = 0 if said is None else dsn.parse_notify(said)
    if parameters:
        return Refused(_UNKNOWN)
    if notify is None:
        return Refused(_BAD_NOTIFY)
    if orcpt is not None and not dsn.is_orcpt(orcpt):
        return Refused(_BAD_ORCPT)
    return Wish(notify, orcpt or "")


def _after_keyword(argument: str, keyword: str) -> tuple[str, str] | None:
    """(what stands between the angle brackets, what follows them); blanks after the colon are forgiven."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    path = argument[len(keyword) :].lstrip(" ")
    if not path.startswith("<"):
        return None
    end = _end_of_path(path)
    if end < 0 or path[end + 1 : end + 2] not in ("", " "):
        return None
    return path[1:end], path[end + 1 :]


def _end_of_path(path: str) -> int:
    """Where the closing bracket is; one within quotes does not count. -1 when there is none."""
    quoted = False
    position = 1
    while position < len(path):
        character = path[position]
        if quoted and character == "\\":
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character == ">" and not quoted:
            return position
        position += 1
    return -1


def _mailbox(path: str) -> str | None:
    """The address of a path as it goes into an envelope: without its source route and its quotes."""
    if not path.isascii() or len(path) > ADDRESS_MAX_OCTETS:
        return None
    route = _ROUTE.match(path)
    position = route.end() if route else 0  # RFC 5321 appendix C: a source route is read over
    quoted = _QUOTED_STRING.match(path, position)
    plain = _DOT_STRING.match(path, position)
    if quoted:
        local, position = _QUOTED_PAIR.sub(r"\1", quoted[0][1:-1]), quoted.end()
    elif plain:
        local, position = plain[0], plain.end()
    else:
        return None
    domain = path[position + 1 :]
    if path[position : position + 1] != "@" or not _is_domain(domain) or not local:
        return None
    return f"{local}@{domain}"


def _is_domain(domain: str) -> bool:
    if _DOMAIN_NAME.fullmatch(domain):
        return len(domain) <= _DOMAIN_MAX_OCTETS
    literal = _LITERAL.fullmatch(domain)
    if literal is None:
        return False
    tag, colon, number = literal[1].partition(":")
    text = number if colon and tag.lower() == "ipv6" else literal[1]
    try:
        return ipaddress.ip_address(text).version == (6 if colon else 4)
    except ValueError:
        return False


def _parameters(rest: str) -> dict[str, str] | Refused:
    """Parameters by keyword, in upper case; a keyword without a value has the value ""."""
    found: dict[str, str] = {}
    for word in rest.split(" "):
        if not word:
            continue
        parameter = _PARAMETER.match(word)
        if parameter is None:
            return Refused("501 5.5.4 a parameter is not written as RFC 5321 says")
        keyword = parameter[1].upper()
        if keyword in found:
            return Refused(_REPEATED)
        found[keyword] = parameter[2] or ""
    return found
