"""The manifests in k8s/ are valid for Kubernetes, offline: kustomize puts them together, the schemas judge them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = str(Path(sys.executable).parent)
# The oldest release we support and the newest whose schemas we have.
RELEASES = ("1.29", "1.37")
FOLDERS = ["k8s", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "k8s" / "overlays").iterdir())]


def tool(name: str) -> str:
    """A program of the virtual environment."""
    found = shutil.which(name, path=TOOLS)
    assert found, f"{name} is not in the virtual environment: run `make check`, which installs requirements/dev.lock"
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_manifests_are_valid(folder: str, tmp_path: Path) -> None:
    made = subprocess.run(
        [tool("kubectl"), "kustomize", folder], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 0, made.stderr
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(made.stdout)
    for release in RELEASES:
        judged = subprocess.run(
            [tool("kubernetes-validate"), "--strict", "-k", release, str(manifests)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert judged.returncode == 0, f"{folder} for {release}:\n{judged.stdout}{judged.stderr}"
