"""When to try again: qmail's curve (qmail-send(8)). Pure arithmetic on unix milliseconds.

The k-th try stands at birth + (k·c)² seconds, c being 10 for local and 20 for remote: 400 s, 1,600 s, 3,600 s … `scale`
is TIME_SCALE: the curve of a message is the same, only its seconds are shorter.
"""

import math

from mail.routing import Channel

_SKIP = {Channel.LOCAL: 10, Channel.REMOTE: 20}


def next_attempt_ms(born_ms: int, now_ms: int, channel: Channel, scale: float) -> int:
    """The next try of a recipient whose last one started now. A clock that jumped back counts as age zero."""
    age_s = max(0, now_ms - born_ms) / (1_000 * scale)
    return born_ms + int(1_000 * scale * (math.isqrt(int(age_s)) + _SKIP[channel]) ** 2)


def is_too_old(born_ms: int, now_ms: int, lifetime_s: int, scale: float) -> bool:
    """Whether a try that starts now is the last: a message lives `lifetime_s` (control/queuelifetime)."""
    return now_ms > born_ms + int(1_000 * scale * lifetime_s)
