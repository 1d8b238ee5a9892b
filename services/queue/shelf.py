"""A sorted map from message ids to values, packed: a million entries cost 24 octets each beside their values.

A B+ tree of two levels: leaves hold their keys side by side in one row of octets. Ids begin with the time, so new ones
go to the end, where it costs least, and the oldest are together at the beginning. Pure.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

from mail import ids
from mail.ids import MessageId

_KEY = ids.OCTETS

# A leaf of 512 keys is 8 KiB: found in nine steps, and moved in a microsecond when one is put into its middle.
_LEAF_MAX = 512

# The birth of an id has 48 bits.
_BIRTH_MAX_MS = (1 << 48) - 1

V = TypeVar("V")


class _Leaf(Generic[V]):
    __slots__ = ("keys", "values")

    def __init__(self, keys: bytearray, values: list[V]) -> None:
        self.keys = keys
        self.values = values

    def place(self, key: bytes) -> int:
        """Where the key stands, or would stand."""
        keys = self.keys
        low, high = 0, len(self.values)
        if not high or keys[-_KEY:] < key:
            return high
        while low < high:
            middle = (low + high) // 2
            if keys[middle * _KEY : middle * _KEY + _KEY] < key:
                low = middle + 1
            else:
                high = middle
        return low

    def holds(self, key: bytes, place: int) -> bool:
        return self.keys[place * _KEY : place * _KEY + _KEY] == key


class Shelf(Generic[V]):
    """Values by id, in the order of the ids."""

    def __init__(self) -> None:
        self._leaves: list[_Leaf[V]] = [_Leaf(bytearray(), [])]
        self._firsts: list[bytes] = [b""]  # no key of leaf n is below firsts[n]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, message: MessageId) -> bool:
        return self.get(message) is not None

    def __iter__(self) -> Iterator[MessageId]:
        """Every id in order. What is put in or taken out meanwhile may be seen or not; nothing else is missed."""
        last = None
        while some := self.after(last):
            yield from some
            last = some[-1]

    def after(self, message: MessageId | None) -> list[MessageId]:
        """The next ids above this one, or the first of all, as many as stand together; none at the end."""
        keys = self._after(ids.to_octets(message) if message else b"")
        return [ids.from_octets(keys[start : start + _KEY]) for start in range(0, len(keys), _KEY)]

    def _after(self, key: bytes) -> bytes:
        for leaf in self._leaves[bisect_right(self._firsts, key) - 1 :]:
            place = leaf.place(key)
            place += leaf.holds(key, place)
            if place < len(leaf.values):
                return bytes(leaf.keys[place * _KEY :])
        return b""

    def get(self, message: MessageId) -> V | None:
        key = ids.to_octets(message)
        leaf = self._leaves[bisect_right(self._firsts, key) - 1]
        place = leaf.place(key)
        return leaf.values[place] if leaf.holds(key, place) else None

    def put(self, message: MessageId, value: V) -> None:
        """Keeps the value, in place of an earlier one."""
        key = ids.to_octets(message)
        number = bisect_right(self._firsts, key) - 1
        leaf = self._leaves[number]
        place = leaf.place(key)
        if leaf.holds(key, place):
            leaf.values[place] = value
            return
        self._count += 1
        if len(leaf.values) >= _LEAF_MAX:
            leaf, place = self._split(number, key, place)
        leaf.keys[place * _KEY : place * _KEY] = key
        leaf.values.insert(place, value)

    def pop(self, message: MessageId) -> V | None:
        """Takes the value out; None when there is none."""
        key = ids.to_octets(message)
        number = bisect_right(self._firsts, key) - 1
        leaf = self._leaves[number]
        place = leaf.place(key)
        if not leaf.holds(key, place):
            return None
        self._count -= 1
        del leaf.keys[place * _KEY : place * _KEY + _KEY]
        value = leaf.values.pop(place)
        if not leaf.values:
            self._drop(number)
        return value

    def pop_born_before(self, unix_ms: int) -> int:
        """Takes out everything whose id is older; returns how much that was."""
        key = ids.to_octets(ids.make_id(max(0, unix_ms), bytes(ids.CHANCE_BYTES)))
        before = self._count
        while self._count:
            leaf = self._leaves[0]
            place = leaf.place(key)
            del leaf.keys[: place * _KEY]
            del leaf.values[:place]
            self._count -= place
            if leaf.values:
                break
            self._drop(0)
        return before - self._count

    def pop_born_after(self, unix_ms: int) -> int:
        """Takes out everything whose id is younger; returns how much that was."""
        key = ids.to_octets(ids.make_id(min(unix_ms + 1, _BIRTH_MAX_MS), bytes(ids.CHANCE_BYTES)))
        before = self._count
        while self._count:
            leaf = self._leaves[-1]
            place = leaf.place(key)
            self._count -= len(leaf.values) - place
            del leaf.keys[place * _KEY :]
            del leaf.values[place:]
            if leaf.values:
                break
            self._drop(len(self._leaves) - 1)
        return before - self._count

    def _split(self, number: int, key: bytes, place: int) -> tuple[_Leaf[V], int]:
        """Makes room in a full leaf; returns the leaf where the key goes, and its place there."""
        leaf = self._leaves[number]
        half = place if place == _LEAF_MAX else _LEAF_MAX // 2  # what only grows at its end stays full
        upper = _Leaf(leaf.keys[half * _KEY :], leaf.values[half:])
        first = bytes(upper.keys[:_KEY]) or key
        del leaf.keys[half * _KEY :]
        del leaf.values[half:]
        self._leaves.insert(number + 1, upper)
        self._firsts.insert(number + 1, first)
        return (upper, place - half) if place >= half and key >= first else (leaf, place)

    def _drop(self, number: int) -> None:
        """Lets go of an empty leaf; the first of all keeps the lowest bound."""
        if len(self._leaves) == 1:
            return
        del self._leaves[number]
        del self._firsts[number]
        self._firsts[0] = b""
