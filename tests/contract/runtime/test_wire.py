"""The numbers of outcomes are the same in mail/, on the wire and on the disk."""

from mail.outcome import Deferred, Delivered, Failed, Kind
from proto import work_pb2
from runtime import wire


def test_kinds_are_those_of_the_wire() -> None:
    assert {kind.name: int(kind) for kind in Kind} == dict(work_pb2.Outcome.Kind.items())


def test_every_outcome_comes_back() -> None:
    for outcome in (Delivered("did 1+0+0\n"), Deferred("later\n"), Failed("never\n")):
        assert wire.outcome_of(wire.kind_of(outcome), outcome.report) == outcome


def test_an_unknown_kind_means_later() -> None:
    assert wire.outcome_of(77, "?") == Deferred("?")


def test_a_long_report_is_cut_as_qmail_cuts_it() -> None:
    cut = wire.cut("é" * 3_000)
    assert cut.endswith("\nError report too long, sorry.\n")
    assert len(cut.encode()) < 3_100
