"""The metrics of many processes as one page, in Prometheus' text format: every sample gets a `service` label.

Text in, text out. The format wants all samples of a name together under one TYPE line, so pages cannot just be joined.
"""

from collections.abc import Mapping


def merge(pages: Mapping[str, str]) -> str:
    """One page of the pages by instance; a line that is no sample and no comment is left out."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for instance, page in pages.items():
        label = f'service="{instance}"'
        family = ""
        seen: set[str] = set()
        for line in page.splitlines():
            if line.startswith("# "):
                words = line.split(" ", 3)
                if len(words) < 3 or words[1] not in ("HELP", "TYPE"):
                    continue
                family = words[2]
                seen.add(family)
                head = heads.setdefault(family, [])
                if not any(known.startswith(f"# {words[1]} ") for known in head):
                    head.append(line)
            elif sample := _labelled(line, label):
                name = line.split("{", 1)[0].split(" ", 1)[0]
                home = family if name.startswith(family) and family else name
                samples.setdefault(home, []).append(sample)
    lines = [line for family in samples for line in (*heads.get(family, ()), *samples[family])]
    return "\n".join(lines) + "\n"


def _labelled(line: str, label: str) -> str:
    name, brace, rest = line.partition("{")
    if brace and " " not in name:
        return f"{name}{{{label}{'' if rest.startswith('}') else ','}{rest}"
    name, space, value = line.partition(" ")
    return f"{name}{{{label}}} {value}" if space and name else ""
