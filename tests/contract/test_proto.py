"""The checked-in code in proto/ is what the compiler makes of the .proto files today."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_generated_code_is_current(tmp_path: Path) -> None:
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "proto").glob("*.proto"))
    kinds = ("python", "mypy", "grpc_python", "mypy_grpc")
    plugins = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I",
            ".",
            *(f"--{kind}_out={tmp_path}" for kind in kinds),
            *sources,
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": plugins},
        check=True,
        timeout=60,
    )
    made = {path.name: path.read_text() for path in (tmp_path / "proto").iterdir()}
    kept = {path.name: path.read_text() for path in (ROOT / "proto").glob("*_pb2*.py*")}
    stale = sorted(name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name))
    assert not stale, f"run `make proto` and commit proto/: {', '.join(stale)}"
