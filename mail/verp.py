"""Variable envelope return paths: a sender `list-@host-@[]` becomes one sender for each recipient (qmail-send(8))."""

from mail import address

MARK = "-@[]"
DOUBLE_BOUNCE = "#@[]"


def sender_for(sender: str, recipient: str) -> str:
    """The sender as one recipient's delivery uses it: `owner-@h-@[]` to `joe@x.y` is `owner-joe=x.y@h`."""
    if not sender.endswith(MARK) or sender == DOUBLE_BOUNCE or "@" not in recipient:
        return sender
    prefix, at, host = sender.removesuffix(MARK).rpartition("@")
    if not at:
        return sender
    local, domain = address.split(recipient)
    return f"{prefix}{local}={domain}@{host}"


def bounce_address(sender: str) -> str:
    """Where a bounce for the message goes: the sender without the mark."""
    return sender if sender == DOUBLE_BOUNCE else sender.removesuffix(MARK)
