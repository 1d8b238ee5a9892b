"""A log as octets: where in its segments what stands, so that a test can hit just that."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.queue import frame, records
from services.queue.names import parse_segment_name

# The parts of a frame's header, by where they begin (services/queue/frame.py).
_HEADER = (("magic", 0), ("place", 4), ("sequence", 28), ("lengths", 36), ("header crc", 44))
_CRC_OCTETS = 4


@dataclass(frozen=True, slots=True)
class Region:
    """Octets of one kind. `ids`: messages that the frame speaks of; `own`: those of this very record."""

    segment: Path
    what: str
    start: int
    end: int
    ids: frozenset[str]
    own: frozenset[str]


@dataclass(frozen=True, slots=True)
class Segment:
    """One file: its regions, where its frames end, whether it ends with a footer, and how much of it counts."""

    path: Path
    regions: tuple[Region, ...]
    ends: tuple[int, ...]
    is_full: bool
    counts: int

    def ids(self, start: int = 0, end: int = 1 << 62) -> frozenset[str]:
        """The messages that its frames from one place to another speak of, as far as they count."""
        end = min(end, self.counts)
        inside = [one.ids for one in self.regions if one.start < end and one.end > start]
        return frozenset().union(*inside)


def read(log: Path) -> list[Segment]:
    """Every segment of a log's directory, oldest first."""
    paths = sorted((path for path in log.glob("*.seg")), key=lambda path: path.name)
    frames = {path: list(_frames(log, path)) for path in paths}
    sealed = _lengths(frames)
    return [_segment(path, frames[path], sealed.get(path.name)) for path in paths]


def _segment(path: Path, frames: list[frame.Found], sealed: int | None) -> Segment:
    regions = tuple(region for found in frames for region in _regions(path, found))
    ends = tuple(found.end for found in frames)
    is_full = bool(frames) and frames[-1].records[0].kind == records.FOOTER
    return Segment(path, regions, ends, is_full, ends[-1] if sealed is None and ends else sealed or 0)


def _frames(log: Path, path: Path) -> Iterator[frame.Found]:
    name = parse_segment_name(path.name)
    assert name
    data = memoryview(path.read_bytes())
    offset = 0
    number = int(log.name.partition(".")[0], 16)
    while found := frame.decode(data, frame.Place(number, name.token, name.number, offset)):
        yield found
        offset = found.end


def _regions(path: Path, found: frame.Found) -> Iterator[Region]:
    ids = frozenset().union(*(_ids(record) for record in found.records))
    kind = {records.SEAL: "seal", records.FOOTER: "footer"}.get(found.records[0].kind, "frame")
    ends = [start for _, start in _HEADER[1:]] + [frame.HEADER_OCTETS]
    for (what, start), end in zip(_HEADER, ends, strict=True):
        yield Region(path, f"{kind} {what}", found.start + start, found.start + end, ids, frozenset())
    for record, fields, body in zip(found.records, found.fields, found.bodies, strict=True):
        own, start, end = _ids(record), fields.offset, fields.offset + fields.octets
        yield Region(path, f"{kind} record", start - frame.RECORD_OCTETS, start, ids, own)
        if fields.octets:
            yield Region(path, f"{kind} fields", start, end, ids, own)
        if body:
            yield Region(path, f"{kind} body", end, end + body, ids, own)
    yield Region(path, f"{kind} crc", found.end - _CRC_OCTETS, found.end, ids, frozenset())


def _ids(record: frame.Record) -> frozenset[str]:
    match records.decode(record):
        case records.Snapshot() as said:
            return frozenset({said.message.id})
        case records.Remembered() as said:
            return frozenset({*said.finished, *said.refused})
        case records.Accepted() | records.Settled() | records.Refused() | records.Finished() as said:
            return frozenset({said.id})
        case _:
            return frozenset()


def _lengths(frames: dict[Path, list[frame.Found]]) -> dict[str, int]:
    """The seal of the highest token: the last first frame of a first segment."""
    for path in sorted(frames, reverse=True):
        if path.name.endswith("-000001.seg") and frames[path]:
            said = records.decode(frames[path][0].records[0])
            if isinstance(said, records.Seal):
                return said.lengths
    return {}
