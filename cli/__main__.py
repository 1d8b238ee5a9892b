"""`python -m cli`: reads the command line and runs one command."""

import sys

from cli.commands import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
