"""`make bench`: Seapost beside Postfix and qmail on this machine. Prints a table and asserts nothing."""

import os
import signal
import sys

from tests.bench import bench, settings


def main() -> int:
    # An interrupt unwinds like an error, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return bench.run(settings.read(os.environ))
    except settings.BadSetting as error:
        print(f"bench: {error}", file=sys.stderr)
        return 78
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
