"""Addresses that lately did not answer at all (qmail-tcpto(8)): skipped for a while, so none costs a slot for long.

Pure: time and chance are arguments. The rule is qmail's; a destination's own back-off is the queue's matter.
"""

from dataclasses import dataclass

# qmail's table has 64 records for one host's queue; a thousand of these take 200 KiB.
_ADDRESSES_MAX = 1_000

# Two connection attempts, this far apart, must have timed out before an address is skipped.
_APART_S = 120.0
_TIMEOUTS = 2
_TIMEOUTS_MAX = 10

# Skipped this long, from 64 to 97 minutes: spread, so that all workers do not come back in the same minute.
_SKIP_BASE_S = 60 * 64
_SKIP_STEP_S = 64
_SPREAD = 32


@dataclass(slots=True)
class _Record:
    timeouts: int
    last_s: float


class Tcpto:
    """What is known of addresses that timed out. All times in seconds of one monotonic clock, divided by `scale`."""

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale
        self._records: dict[str, _Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def timed_out(self, ip: str, now_s: float) -> None:
        """A connection attempt got no answer within timeoutconnect."""
        record = self._records.pop(ip, None)
        if record is None:
            record = _Record(1, now_s)
        elif now_s - record.last_s >= _APART_S * self._scale:
            record = _Record(min(record.timeouts + 1, _TIMEOUTS_MAX), now_s)
        self._records[ip] = record
        if len(self._records) > _ADDRESSES_MAX:
            del self._records[next(iter(self._records))]

    def answered(self, ip: str) -> None:
        """The address answered, be it with a refusal."""
        self._records.pop(ip, None)

    def is_skipped(self, ip: str, now_s: float, chance: int) -> bool:
        """Whether not to try; `chance` is any octet."""
        record = self._records.get(ip)
        if record is None or record.timeouts < _TIMEOUTS:
            return False
        skip_s = _SKIP_BASE_S + chance % _SPREAD * _SKIP_STEP_S
        return now_s - record.last_s < skip_s * self._scale

    def forget(self) -> None:
        """qmail-tcpok(8): every address may be tried again."""
        self._records.clear()
