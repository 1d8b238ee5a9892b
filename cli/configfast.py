"""config-fast (programs/configfast.py) for this command: what it refuses, this command refuses."""

import os

from cli.refusal import Refusal
from programs import configfast
from programs.complaint import Fatal


def write(control: str, name: str) -> list[str]:
    """Writes the control files of a host with this name; returns what config-fast says."""
    try:
        return configfast.write(control, name)
    except Fatal as fatal:
        raise Refusal(os.fsdecode(fatal.text)) from fatal
