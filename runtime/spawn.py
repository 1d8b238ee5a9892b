"""What a front and its spawner say to each other: records of fixed sizes over a socketpair that keeps their bounds.

A password travels from the front, which has it from the network; never a hash, a uid or a path in either direction.
"""

import struct
from enum import IntEnum

from mail.limits import ADDRESS_MAX_OCTETS

NAME_MAX_OCTETS = 1 + ADDRESS_MAX_OCTETS  # of an Account.key on the wire: users/assign may name any local part
SECRET_MAX_OCTETS = 512  # libcrypt's CRYPT_MAX_PASSPHRASE_SIZE
REQUEST = struct.Struct(f"<IBHH{NAME_MAX_OCTETS}s{SECRET_MAX_OCTETS}s")  # serial, purpose, two lengths, name, secret
REPLY = struct.Struct("<IB")  # serial, Status; with the child's socket when OK
GREETING = struct.Struct("<BB")  # the child's first octets: Status, errno


class Purpose(IntEnum):
    CHILD = 1
    CHILD_IF_PASSWORD = 2


class Status(IntEnum):
    """What becomes of a request, and of a child before it serves."""

    OK = 0
    NO_ACCOUNT = 1  # nobody who gets mail has this name
    DENIED = 2  # the password is wrong, or there is no such account: not told apart
    BUSY = 3  # a limit is reached, or fork(2) failed
    UNREADABLE = 4  # the account files
    NO_HOME = 5  # the home cannot be entered; errno says why
    NOT_OWNER = 6  # the home is somebody else's: this is no mail account (qmail-getpw(8))
    UNSAFE = 7  # the privileges could not be given up
