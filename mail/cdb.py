"""cdb(5), the constant database of qmail's users/cdb, tcp.smtp.cdb and aliases.cdb: octets in, octets out.

Pure: knows the format (2,048 octets that say where 256 hash tables are, then records, then the tables) and nothing of
what the keys mean. Whoever reads a file that is not one gets BadCdb, never a part of it.
"""

import struct
from collections.abc import Iterable, Iterator

TYPE_CHECKING = False  # mypy knows the name; asking typing for it costs a program's start

if TYPE_CHECKING:
    from mmap import mmap

    Octets = bytes | mmap  # a file that is mapped is not read but where it is looked at

_PAIR = struct.Struct("<II")
_TABLES = 256
_RECORDS_AT = _TABLES * _PAIR.size
_HASH_START = 5_381
SIZE_MAX = 0xFFFF_FFFF  # places in the file have 32 bits


class BadCdb(ValueError):
    """These octets are no cdb, or one that was cut off."""


def make(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A cdb with these keys and values in this order, octet for octet as qmail's cdbmss makes it. OverflowError when
    it would be longer than SIZE_MAX."""
    body = bytearray()
    tables: list[list[tuple[int, int]]] = [[] for _ in range(_TABLES)]
    for key, value in records:
        number = _hash(key)
        tables[number % _TABLES].append((number, _RECORDS_AT + len(body)))
        body += _PAIR.pack(len(key), len(value)) + key + value
        _bounded(_RECORDS_AT + len(body))
    head = bytearray()
    for entries in tables:
        head += _PAIR.pack(_RECORDS_AT + len(body), 2 * len(entries))
        body += _table(entries)
        _bounded(_RECORDS_AT + len(body))
    return bytes(head + body)


def records(cdb: "Octets") -> Iterator[tuple[bytes, bytes]]:
    """Every key and its value in the order in which they were put in; equal keys each time. BadCdb."""
    at, end = _RECORDS_AT, _records_end(cdb)
    while at < end:
        key, value, at = _record(cdb, at, end)
        yield key, value


def find(cdb: "Octets", key: bytes) -> bytes | None:
    """The first value of this key; None when there is none. BadCdb."""
    return next(values(cdb, key), None)


def values(cdb: "Octets", key: bytes) -> Iterator[bytes]:
    """Every value of this key, in the order in which they were put in. BadCdb."""
    number = _hash(key)
    start, slots = _pair(cdb, number % _TABLES * _PAIR.size)
    if start + slots * _PAIR.size > len(cdb):
        raise BadCdb("a table lies outside the file")
    for step in range(slots):
        slot = (number // _TABLES + step) % slots
        found, at = _pair(cdb, start + slot * _PAIR.size)
        if not at:
            return
        if found == number:
            other, value, _ = _record(cdb, at, len(cdb))
            if other == key:
                yield value


def _table(entries: list[tuple[int, int]]) -> bytes:
    slots = [(0, 0)] * (2 * len(entries))
    for number, at in entries:
        slot = number // _TABLES % len(slots)
        while slots[slot][1]:
            slot = (slot + 1) % len(slots)
        slots[slot] = (number, at)
    return b"".join(_PAIR.pack(*slot) for slot in slots)


def _hash(key: bytes) -> int:
    number = _HASH_START
    for octet in key:
        number = (number * 33 & 0xFFFF_FFFF) ^ octet
    return number


def _records_end(cdb: "Octets") -> int:
    """Where the records end, which is where the tables begin."""
    places = [_pair(cdb, number * _PAIR.size) for number in range(_TABLES)]
    end = min(at for at, _ in places)
    if end < _RECORDS_AT or any(at + slots * _PAIR.size > len(cdb) for at, slots in places):
        raise BadCdb("a table lies outside the file")
    return end


def _record(cdb: "Octets", at: int, end: int) -> tuple[bytes, bytes, int]:
    """(key, value, where the next record begins)."""
    key_size, value_size = _pair(cdb, at)
    key_at = at + _PAIR.size
    value_at = key_at + key_size
    if value_at + value_size > end:
        raise BadCdb("a record does not end")
    return cdb[key_at:value_at], cdb[value_at : value_at + value_size], value_at + value_size


def _pair(cdb: "Octets", at: int) -> tuple[int, int]:
    if at + _PAIR.size > len(cdb):
        raise BadCdb("the file is too short")
    first, second = _PAIR.unpack_from(cdb, at)
    return first, second


def _bounded(size: int) -> None:
    if size > SIZE_MAX:
        raise OverflowError(f"a cdb has at most {SIZE_MAX} octets")
