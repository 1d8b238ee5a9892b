"""What may be taken away without any test noticing, each with the reason why that is right (survivors.txt).

A line that begins a sabotage's key; an indented one is the reason for those above it.
"""

from pathlib import Path

LISTED = Path(__file__).with_name("survivors.txt")


def read(path: Path = LISTED) -> dict[str, str]:
    """Key of each listed survivor to its reason. ValueError for one without a reason, or listed twice."""
    reasons: dict[str, str] = {}
    waiting: list[str] = []
    was_reason = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            for key in waiting:
                reasons[key] = f"{reasons[key]} {line.strip()}".strip()
        else:
            if was_reason:
                waiting = []
            if line in reasons:
                raise ValueError(f"listed twice: {line}")
            waiting.append(line)
            reasons[line] = ""
        was_reason = line.startswith(" ")
    silent = [key for key, reason in reasons.items() if not reason]
    if silent:
        raise ValueError(f"without a reason: {silent}")
    return reasons
