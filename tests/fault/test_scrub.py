"""The scrub and a disk that alters what was written, while the page cache still holds what was right."""

import os
from pathlib import Path

from runtime.clock import SystemChance, SystemClock
from runtime.durable import Disk
from runtime.events import Events
from services.queue.index import Index
from services.queue.scrub import Scrub
from services.queue.spool import Spool
from tests.conftest import missing
from tests.harness.volume import Volume, missing_part
from tests.harness.yard import Yard, accepted, crc

BODY = b"a body that stands nowhere else on this disk\n" * 40


async def test_what_the_disk_alters_is_found_though_the_page_cache_has_it_right(tmp_path: Path) -> None:
    lack = missing_part("ext4")
    if lack:
        missing(*lack)
    volume = Volume.make("ext4", tmp_path / "image", tmp_path / "point")
    with volume.mounted():
        spool = Spool(str(volume.point / "spool"), Disk())
        (volume.point / "spool").mkdir()
        spool.prepare("mail.example", "0" * 32)
        taken, index = Yard(spool).taker("queue-0").create("0a1b2c3d", 0), Index()
        log = taken.log
        [at] = log.append([accepted(1, BODY)])
        index.learn(accepted(1, BODY), at)
        scrub = Scrub(spool, Events("queue-0", SystemClock(), "json"), SystemClock(), SystemChance())
        assert (await scrub.scrub(log, index)).damaged == 0
        assert log.read(at, crc(BODY)) == BODY
        with volume.image.open("r+b") as image:
            place = image.read().index(BODY)
            image.seek(place)
            image.write(b"b")
        assert log.read(at, crc(BODY)) == BODY, "the page cache has it right"
        assert (await scrub.scrub(log, index)).damaged == 1
        log.close()
        assert taken.lock is not None
        os.close(taken.lock)
