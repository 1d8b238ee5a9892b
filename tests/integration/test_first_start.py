"""What a new user does: start it in an empty directory and paste the three lines."""

import subprocess
from pathlib import Path

from tests.harness.stack import Stack, running


def test_the_three_lines_work_when_pasted(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "new")
    stack.directory.mkdir()
    with running(stack):
        stack.said.wait(r"poplib")
        first = next(number for number, line in enumerate(stack.said.lines) if "three lines to paste" in line) + 1
        lines = stack.said.lines[first : first + 3]
        pasted = subprocess.run(
            ("sh", "-c", "\n".join(lines)), capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
        )
        assert pasted.stdout.endswith("Subject: first\n\nIt works.\n"), pasted
        assert (tmp_path / "new" / "demo.password").read_text().strip() in lines[2]
