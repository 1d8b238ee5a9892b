"""What control files say of the queue, as one value; SIGHUP makes another. Reading them is config.py."""

from dataclasses import dataclass

from mail.routing import RoutingTable
from services.queue.bounce import BounceRules


@dataclass(frozen=True, slots=True)
class Rules:
    """control/locals and its kind, bouncefrom and its kind, queuelifetime, delaywarning (0: none); and TIME_SCALE."""

    routing: RoutingTable
    bounce: BounceRules
    lifetime_s: int
    scale: float
    delaywarning_s: int = 0
