"""datemail(1): sendmail with a Date field in local time."""

import os
from collections.abc import Sequence

from programs import place, predate


def main(words: Sequence[str]) -> int:
    """sendmail's exit status."""
    return predate.main([os.path.join(place.CHECKOUT, "bin", "sendmail"), *words])
