"""The words of qmail-local and qmail-lspawn, to the byte, and the few that they never had to say.

People, bounces and scripts know them by heart; every text stands here once.
"""

import errno
import signal

from mail import trouble

_NAME_SHOWN_MAX = 100  # characters of a program's name in a report

NO_MAILBOX = "Sorry, no mailbox here by that name. (#5.1.1)\n"
NO_HOST = "Sorry, address must include host name. (#5.1.3)\n"
NO_ALIAS = "Unable to find alias user!\n"
LOOPING = "This message is looping: it already has my Delivered-To line. (#5.4.6)\n"
HOME_WRITABLE = "Uh-oh: home directory is writable. (#4.7.0)\n"
HOME_STICKY = "Home directory is sticky: user is editing his .qmail file. (#4.2.1)\n"
DOT_WRITABLE = "Uh-oh: .qmail file is writable. (#4.7.0)\n"
DOT_BLANK = "Uh-oh: first line of .qmail file is blank. (#4.2.1)\n"
DOT_FILE_IN_LIST = "Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)\n"
DOT_PROGRAM_IN_LIST = "Uh-oh: .qmail has prog delivery but has x bit set. (#4.7.0)\n"
NO_MAILDIR = "Unable to chdir to maildir. (#4.2.1)\n"
MAILDIR_TROUBLE = "Temporary error on maildir delivery. (#4.3.0)\n"
MAILDIR_TIMEOUT = "Timeout on maildir delivery. (#4.3.0)\n"
SLOW_LOCK = "File has been locked for 30 seconds straight. (#4.3.0)\n"
CRASHED = "qmail-local crashed.\n"
CHILD_CRASHED = "Aack, child crashed. (#4.3.0)\n"
REPORT_TOO_LONG = "\nError report too long, sorry.\n"
AS_ROOT = "Not allowed to perform deliveries as root.\n"
TROUBLE = "Temporary failure in qmail-lspawn.\n"
FORWARD_TOO_LONG = "Unable to forward message: envelope address too long for qq (#5.1.3).\n"

# Not qmail's: cases that it let pass, or that cannot happen there.
DOT_NUL = "Uh-oh: .qmail file has a NUL octet in it. (#4.2.1)\n"
DOT_TOO_LONG = "Uh-oh: .qmail file is too long. (#4.2.1)\n"
DOT_TOO_MANY = "Uh-oh: .qmail file has too many instructions. (#4.2.1)\n"
DOT_OTHERS = "Uh-oh: .qmail file belongs to another user. (#4.7.0)\n"
PROGRAMS_BUSY = "Too many programs of this user are running. (#4.3.2)\n"
ASSIGN_UNREADABLE = "Trouble reading users/assign or users/cdb: ask for the alert of this host. (#4.3.0)\n"
ACCOUNTS_UNREADABLE = "Unable to read the account files. (#4.3.0)\n"
UNSAFE = "Unable to become the user. (#4.3.0)\n"
FORWARD_UNFIT = "Unable to forward message: an address in .qmail is not fit for an envelope. (#4.3.5)\n"
NO_CHILD = "Unable to start a process for the user. (#4.3.0)\n"
OUT_OF_CONTACT = "The queue is out of reach: this delivery was not started. (#4.3.0)\n"


def because(number: int) -> str:
    """qmail's words for an errno."""
    return trouble.words(number)


def no_home(home: str, number: int) -> str:
    return f"Unable to switch to {home}: {because(number)}. (#4.3.0)\n"


def may_have_no_mail(uid: int, gid: int) -> str:
    """Why users/assign cannot give mail to these ids; of root qmail said the same, of others nothing."""
    if not uid:
        return AS_ROOT
    reason = "it is root's group" if not gid else f"uid {uid} is below UID_MIN"
    return f"Not allowed to perform deliveries as uid {uid}, gid {gid} of users/assign: {reason}.\n"


def home_of_another(uid: int) -> str:
    return f"Home directory in users/assign does not belong to uid {uid}. (#4.3.5)\n"


def cannot_open(name: str, number: int) -> str:
    return f"Unable to open {name}: {because(number)}. (#4.3.0)\n"


def cannot_open_mbox(path: str, number: int) -> str:
    return f"Unable to open {path}: {because(number)}. (#4.2.1)\n"


def cannot_lock(path: str, number: int) -> str:
    """qmail went on without the lock."""
    return f"Unable to lock {path}: {because(number)}. (#4.3.0)\n"


def cannot_write(path: str, number: int) -> str:
    return f"Unable to write {path}: {because(number)}. (#4.3.0)\n"


def did(files: int, forwards: int, programs: int) -> str:
    """The report of a success."""
    return f"did {files}+{forwards}+{programs}\n"


def queued(message: str) -> str:
    """The second line of such a report, when something was forwarded."""
    return f"qp {message}\n"


def maildir_trouble(number: int) -> str:
    """A mailbox that is full says so; everything else is qmail's one sentence."""
    if number == errno.EDQUOT:
        return "The mailbox is over its quota. (#4.2.2)\n"
    if number == errno.ENOSPC:
        return "Temporary error on maildir delivery: out of disk space. (#4.3.1)\n"
    return MAILDIR_TROUBLE


def cannot_rewind(number: int) -> str:
    """qmail had no reason to give."""
    return f"Unable to rewind message: {because(number)}. (#4.3.0)\n"


def cannot_fork(number: int) -> str:
    return f"Unable to fork: {because(number)}. (#4.3.0)\n"


def cannot_run_shell(number: int) -> str:
    return f"Unable to run /bin/sh: {because(number)}. (#4.3.0)\n"


def killed(number: int) -> str:
    """Two signals come from limits that qmail did not set."""
    if number == signal.SIGXCPU:
        return "The program was stopped: it used too much processor time. (#4.3.0)\n"
    if number == signal.SIGXFSZ:
        return "The program was stopped: it wrote too large a file. (#4.3.0)\n"
    return CHILD_CRASHED


def program_timeout(seconds: int) -> str:
    return f"The program was stopped: it had not ended after {seconds} seconds. (#4.3.0)\n"


def not_found(command: str) -> str:
    """sh(1) exits 127; what it says itself depends on the shell."""
    return (
        f"Unable to find {_first_word(command)}, or a program that it calls: a program must be installed where local"
        " runs (in a container: in local's image), in a directory of PATH. (#4.3.5)\n"
    )


def _first_word(command: str) -> str:
    """What a command of the shell is likely to run: its first word that is no assignment."""
    words = (word for word in command.split() if "=" not in word)
    return next(words, "the program")[:_NAME_SHOWN_MAX]
