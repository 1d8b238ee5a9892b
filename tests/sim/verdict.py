"""What a history must have come to: the promises of architecture.md, section 4, checked on what the world outside saw.

I1 nothing accepted is lost, I2 nothing is altered, I3 no copy twice outside the announced windows, I4 nothing refused
is delivered; I11 and I12 the world itself watches.
"""

import re
from collections import Counter

from mail import ids
from mail.ids import MessageId
from tests.sim.people import HOME, Copy, Letter, Post, is_unresolved

_NAMED = re.compile(rb"^<([^>]+)>:$", re.M)
# The place of a bounce among its parent's instructions: part of its id, so it never changes.
_BOUNCE_INSTRUCTION = 1_000_000


def _bounce_of(message: MessageId) -> MessageId:
    return ids.child_id(message, 0, _BOUNCE_INSTRUCTION, "bounce")


def judge(post: Post) -> list[str]:
    """Everything that is wrong."""
    copies: dict[MessageId, list[Copy]] = {}
    for copy in post.copies:
        copies.setdefault(copy.message, []).append(copy)
    wrong: list[str] = []
    for letter in post.letters.values():
        wrong += _letter(letter, copies, post)
    wrong += _twice(post)
    wrong += _strangers(post, copies)
    return wrong


def _letter(letter: Letter, copies: dict[MessageId, list[Copy]], post: Post) -> list[str]:
    message = letter.submission.id
    got = copies.get(message, [])
    wrong = [f"I2: {message} to {copy.address} is altered" for copy in got if copy.body != letter.submission.body]
    bounce = _bounce_of(message)
    bounced = copies.get(bounce, [])
    if letter.answer.startswith(("4", "5")) and not is_unresolved(letter.answer):
        if got or bounced:
            wrong.append(
                f"I4: {message} was answered {letter.answer!r} and is delivered to {[one.address for one in got]}"
            )
    elif letter.answer == "250":
        named = {address.decode() for copy in bounced for address in _NAMED.findall(copy.body)}
        wrong += _recipients(letter, got, named, copies)
    return wrong


def _recipients(letter: Letter, got: list[Copy], named: set[str], copies: dict[MessageId, list[Copy]]) -> list[str]:
    wrong: list[str] = []
    message, sender = letter.submission.id, letter.submission.sender
    for index, address in enumerate(letter.submission.recipients):
        fate = address.partition("-")[0]
        if fate == "forward":
            child = ids.child_id(message, index, 0, f"ok-9@{HOME}\nok-9@far.example")
            if len({copy.index for copy in copies.get(child, [])}) < 2:
                wrong.append(f"I1: {message} to {address}: the forward {child} is lost")
        elif fate == "fail":
            # The bounce of a bounce goes to the postmaster, under an id of its own.
            if address not in named:
                wrong.append(f"I1: {message} to {address} failed and {sender!r} was not told")
        elif not any(copy.index == index for copy in got) and address not in named:
            wrong.append(f"I1: {message} to {address} is lost")
    return wrong


def _twice(post: Post) -> list[str]:
    """A Maildir never has two; a remote server may, when a window was announced for this message."""
    counts = Counter((copy.message, copy.index, copy.address) for copy in post.copies)
    return [
        f"I3: {message} to {address} was delivered {count} times, unannounced"
        for (message, index, address), count in counts.items()
        if count > 1 and not post.announced[message]
    ]


def _strangers(post: Post, copies: dict[MessageId, list[Copy]]) -> list[str]:
    """Whatever was delivered has come from a letter."""
    parents: dict[MessageId, str] = {}
    for letter in post.letters.values():
        message = letter.submission.id
        parents[message] = letter.answer
        for index, address in enumerate(letter.submission.recipients):
            if address.startswith("forward-"):
                parents[ids.child_id(message, index, 0, f"ok-9@{HOME}\nok-9@far.example")] = letter.answer
    for parent in list(parents):
        bounce = _bounce_of(parent)
        parents[bounce] = parents[parent]
        parents[_bounce_of(bounce)] = parents[parent]
    return [f"I2: nobody sent {message}" for message in copies if message not in parents]
