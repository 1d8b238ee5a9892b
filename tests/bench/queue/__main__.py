"""`make bench-queue`: one queue replica with a million messages. Prints figures and asserts nothing."""

import os
import signal
import sys

import uvloop

from tests.bench.queue import bench, settings
from tests.bench.settings import BadSetting


def main() -> int:
    # An interrupt unwinds like an error, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return uvloop.run(bench.run(settings.read(os.environ)))
    except BadSetting as error:
        print(f"bench: {error}", file=sys.stderr)
        return 78
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
