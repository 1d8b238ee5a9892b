"""The numbers of services/queue/README.md, where a wider one would be noticed by nobody before it harms."""

import pytest

from mail.limits import KIB, MIB
from runtime import worker
from services.queue import commit, dispatch, errand, footer, index, intake, log, ownership, plan, quarantine, store
from services.queue.fence import LEASE_MS, RENEW_S

GIB = 1024 * MIB

PROMISED = {
    "an id may be so old": (index.ID_OLDEST_S, 3_600),
    "an id may be so far ahead": (index.ID_AHEAD_S, 300),
    "an id is remembered for": (index.ID_MEMORY_S, 4_200),
    "an id is remembered for, however small TIME_SCALE": (index.ID_MEMORY_MIN_S, 120),
    "messages kept as objects": (index.AWAKE_MAX, 4_096),
    "waiting for the disk": (commit.WAITING_MAX_OCTETS, 128 * MIB),
    "an outcome waits for company": (commit.PATIENCE_S, 0.005),
    "free space, as a part": (store._FREE_PART, 20),
    "free space, at most": (store._FREE_MAX_OCTETS, 2 * GIB),
    "free space, at least": (store._FREE_MIN_OCTETS, 256 * MIB),
    "free inodes": (store._FREE_INODES, 1_000),
    "bodies begun on a stream": (intake._PARTIAL_MAX, 16),
    "octets of bodies begun": (intake.PARTIAL_MAX_OCTETS, 8 * (64 * MIB + 4 * KIB)),
    "transactions with one domain": (plan.REMOTE_DESTINATION_MAX, 10),
    "a destination is left alone for": (plan.BACK_OFF_S, 60),
    "a destination is left alone for, at most": (plan.BACK_OFF_MAX_S, 3_600),
    "recipients of a transaction": (errand.TRANSACTION_RECIPIENTS_MAX, 100),
    "a segment": (log.SEGMENT_OCTETS, 64 * MIB),
    "a frame": (log.FRAME_MAX_OCTETS, 16 * MIB),
    "a body in a frame": (log.INLINE_MAX_OCTETS, MIB),
    "a footer": (footer.FOOTER_MAX_OCTETS, 8 * MIB),
    "logs of one replica": (ownership.LOGS_MAX, 64),
    "a heart beats every": (ownership.HEARTBEAT_S, 1.0),
    "neighbours have time to come back": (ownership._SETTLE_S, 3.0),
    "a lease lasts": (LEASE_MS, 8_000),
    "a lease is renewed every": (RENEW_S, 2.0),
    "a worker may come back within": (dispatch.REATTACH_S, 30.0),
    "a worker stops after": (worker.ORPHAN_S, 20.0),
    "a queue says something every": (worker.BEAT_S, 5.0),
    "files in quarantine": (quarantine.FILES_MAX, 1_000),
}


@pytest.mark.parametrize("what", PROMISED)
def test_a_limit_is_what_was_promised(what: str) -> None:
    found, promised = PROMISED[what]
    assert found == promised
