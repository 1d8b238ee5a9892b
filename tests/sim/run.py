"""One history from its seed: the world on the stage, what came of it, and nothing left of it afterwards."""

import gc
import hashlib
import os
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field

from tests.sim import verdict
from tests.sim.stage import on_stage
from tests.sim.world import World

CONTROLS = {"me": "sim.example\n", "locals": "sim.example\n"}


@dataclass(slots=True)
class Tale:
    """What came of one history."""

    seed: int
    events: int
    wrong: list[str]
    takeovers: int = 0
    crashes: int = 0
    replicas: int = 0
    messages: int = 0
    passed: Counter[tuple[str, str]] = field(default_factory=Counter)
    struck: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """The same seed has the same, always."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


def write_controls(directory: str) -> None:
    for name, text in CONTROLS.items():
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)


def tell(seed: int, controls: str, with_trace: bool = False) -> Tale:
    """The history of one seed."""
    hook = sys.unraisablehook
    gc.disable()  # what is collected when must not depend on what ran before
    world = World(seed, controls, with_trace)
    try:
        with on_stage(world):
            try:
                world.run()
                return _tale(world)
            finally:
                # The coroutines of the dead end here, where no call of theirs has an effect, and not in another world.
                sys.unraisablehook = lambda _: None
                world.forget()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    gc.collect()
    finally:
        gc.enable()
        sys.unraisablehook = hook


def _tale(world: World) -> Tale:
    wrong = world.wrong + (verdict.judge(world.post) if not world.wrong else [])
    return Tale(
        seed=world.seed,
        events=world.happened,
        wrong=wrong,
        takeovers=world.takeovers,
        crashes=world.crashes,
        replicas=world.replicas,
        messages=len(world.post.letters),
        passed=world.passed,
        struck=world.struck,
        trace=[" ".join(map(str, line)) for line in world.trace or []],
    )
