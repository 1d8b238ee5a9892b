"""The manifests in k8s/ are valid for Kubernetes, offline: kustomize puts them together, the schemas judge them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = str(Path(sys.executable).parent)
# The newest release whose schemas we have, and the oldest that we support; an overlay has the base in it.
NEWEST, OLDEST = "1.37", "1.29"
OVERLAYS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "k8s" / "overlays").iterdir())


def tool(name: str) -> str:
    """A program of the virtual environment."""
    found = shutil.which(name, path=TOOLS)
    assert found, f"{name} is not in the virtual environment: run `make check`, which installs requirements/dev.lock"
    return found


@pytest.mark.parametrize(("folder", "release"), [("k8s", NEWEST), *((overlay, OLDEST) for overlay in OVERLAYS)])
def test_manifests_are_valid(folder: str, release: str, tmp_path: Path) -> None:
    made = said([tool("kubectl"), "kustomize", folder])
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(made)
    said([tool("kubernetes-validate"), "--strict", "-k", release, str(manifests)])


def said(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
