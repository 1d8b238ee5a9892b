"""A program of Debian's without installing it: the package is downloaded and unpacked, never configured.

What is installed already is used as it is. Leaves everything in one cache folder, which may be deleted at any time.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_DOWNLOAD_MAX_S = 120


class Missing(Exception):
    """Something that the bench can do without, and why it is not there."""


@dataclass(frozen=True, slots=True)
class Package:
    """An unpacked package: its files are below `root`; `libraries` is what LD_LIBRARY_PATH must be."""

    root: Path
    libraries: str

    def program(self, path: str) -> str:
        return str(self.root / path)

    def environment(self) -> dict[str, str]:
        """The caller's environment, with the package's libraries."""
        return {**os.environ, "LD_LIBRARY_PATH": self.libraries} if self.libraries else dict(os.environ)


def find(name: str, program: str, cache: Path) -> Package:
    """The package `name`, which has `program` (a path below the root): installed, unpacked before, or unpacked now.

    Raises Missing.
    """
    if os.access(f"/{program}", os.X_OK):
        return Package(Path("/"), "")
    root = cache / name
    if not root.is_dir():
        _unpack(name, root)
    folders = [root / "usr/lib" / name, *root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")]
    return Package(root, ":".join(str(folder) for folder in folders if folder.is_dir()))


def _unpack(name: str, root: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise Missing(f"{name} is not installed, and there is no apt-get to download it with")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        fresh = Path(folder, "root")
        archive = _download(name, Path(folder))
        _run("dpkg", "-x", str(archive), str(fresh))
        for library in _libraries(archive):
            _run("dpkg", "-x", str(_download(library, Path(folder))), str(fresh))
        fresh.chmod(0o755)
        fresh.rename(root)


def _libraries(archive: Path) -> list[str]:
    """The libraries that the package depends on and that are not installed."""
    said = _run("dpkg-deb", "--field", str(archive), "Depends")
    names = [part.split()[0].partition(":")[0] for part in said.split(",") if part.strip().startswith("lib")]
    return [name for name in names if not _installed(name)]


def _installed(name: str) -> bool:
    question = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return subprocess.run(question, capture_output=True, text=True, check=False).stdout == "installed"


def _download(name: str, folder: Path) -> Path:
    before = set(folder.glob("*.deb"))
    _run("apt-get", "download", name, folder=folder)
    found = set(folder.glob("*.deb")) - before
    if not found:
        raise Missing(f"apt-get downloaded no {name}")
    return found.pop()


def _run(*command: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_DOWNLOAD_MAX_S, check=False)
    except subprocess.TimeoutExpired:
        raise Missing(f"`{' '.join(command)}` took more than {_DOWNLOAD_MAX_S} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no message"]
        raise Missing(f"`{' '.join(command)}`: {said[-1]} (an `apt-get update` may help)")
    return done.stdout
