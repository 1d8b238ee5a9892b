"""Names of files in a Maildir, which local gives and pop3 reads."""

import re

# maildir(5): no leading dot, no slash, and nothing that would break a line of UIDL; `:2,flags` after the unique part.
_NAME = re.compile(r"(?!\.)[\x21-\x2e\x30-\x7e]{1,200}\Z")
CLUSTER_MAX_CHARACTERS = 16


def delivery_name(arrived_s: int, message: str, recipient: int, instruction: int, cluster: str) -> str:
    """The file name of one delivery: the same at every attempt, and of no other delivery. At most 70 characters."""
    return f"{arrived_s}.Q{message}R{recipient}I{instruction}.{cluster}"


def unique_part(name: str) -> str:
    """What identifies the message whether it is in new/ or in cur/: the name up to the flags."""
    return name.partition(":")[0]


def acceptable(name: str) -> bool:
    """Whether a file name may be shown to a client as it is."""
    return _NAME.match(name) is not None
