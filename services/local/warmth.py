"""How many users' children are kept between deliveries, from what the machine or the container has. Read by the spawner
before it is forked, so it imports little.

A warm child is a process with about 3 MB of its own; making one when mail comes costs as much as ten deliveries.
"""

from runtime import capacity

# Programs at once. Each has a child of its own, and memory of its own, up to control/softlimit.
RUNNING_MAX = 64
LEAST = 64
MOST = 1_024
_OCTETS = 3 * 1024 * 1024
# Of the memory, the processes and a process's descriptors (the spawner has two for each child) so much is for them.
_MEMORY_SHARE = 8
_PROCESSES_SHARE = 4
_DESCRIPTORS_SHARE = 4
# Children that were told to end and have not yet.
_ENDING = 64


def warm_max() -> int:
    """How many are kept."""
    room = min(
        capacity.memory_octets() // _MEMORY_SHARE // _OCTETS,
        capacity.processes() // _PROCESSES_SHARE,
        capacity.descriptors() // _DESCRIPTORS_SHARE,
    )
    return max(LEAST, min(MOST, room))


def children_max() -> int:
    """How many there may be, with those that end and those that run programs."""
    return warm_max() + _ENDING + RUNNING_MAX
