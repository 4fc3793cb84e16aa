"""Every path of the project. No other module spells one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
REFERENCE = DATA / "reference"  # published figures that we compare with (the original's 18 cases, FF++'s humans)
FFPP_SPLITS = REFERENCE / "ffpp_splits"  # the official splits and sources: facts about FaceForensics++, for trees without them
SYNTHFF = {1: DATA / "synthff", 2: DATA / "synthff2"}  # by release
PACKAGED = DATA / "models"  # networks that come with the repository, each in a folder with its card
NOTEBOOKS = ROOT / "notebooks"
REPORT = ROOT / "report"
PROTOCOL = REPORT / "protocol.md"  # of the study, committed before its test is scored
REAL_FOOTAGE = PACKAGED / "real_footage.csv"  # what they said of a few clips of filmed people
WHERE_IT_LOOKS = PACKAGED / "where_it_looks.csv"  # Grad-CAM of the one that is shipped, inside and outside of the masks
FAKELESS_PROTOCOL = REPORT / "protocol_without_fakes.md"  # of the comparison of what is learned without fakes
FAKELESS = DATA / "without_fakes"  # its committed tables
SPLIT_RULES_PROTOCOL = REPORT / "protocol_split_rules.md"  # of the comparison of ways to split, likewise
SPLIT_RULES_SCORES = DATA / "split_rules" / "scores.csv.gz"  # its committed scores, one row a face
QUALITY_CURVE = DATA / "quality_curve"  # scores at every quality of the curve, and what compression took
BENCHMARKS = ROOT / "benchmarks"  # scripts, and the committed tables that they have written
RATES = BENCHMARKS / "rates.csv"  # measured by benchmarks/rates.py, read by the plan
WORK = Path(os.environ.get("DEEPFAKE_WORK", DATA / "work"))  # what is not committed; tests point it elsewhere


@dataclass(frozen=True)
class Workspace:
    """Where one profile reads and writes; only the default profile's `root` is the repository itself.

    What is committed lies below `root`, what is not below `work`. A `variant`, an experiment that changes one setting, has
    folders of its own for runs.
    """

    root: Path
    variant: str = ""  # "ablation/threshold/0.8"
    work_root: Path | None = None  # None: `root`

    @property
    def work(self) -> Path:
        return self.work_root or self.root

    @property
    def faces(self) -> Path:
        """Cache of face crops (rebuilt by notebook 02, not committed)."""
        return self.work / "faces"

    @property
    def made(self) -> Path:
        """Videos at a quality that the tree lacks, encoded here (not committed)."""
        return self.work / "made"

    def made_from(self) -> dict[str, str]:
        """Return the qualities that were made here, each with the one that it was made from; ValueError for a damaged file."""
        path = self.made / "made.json"
        try:
            made = read_json(path) if path.is_file() else {}
        except (ValueError, RecursionError):
            made = None
        if not isinstance(made, dict) or not all(isinstance(source, str) for source in made.values()):
            raise ValueError(f"{path} is damaged: remove it, and extract the faces again, which writes it")
        return made

    @property
    def runs(self) -> Path:
        """One folder a training run: config, log, checkpoint, scores (not committed)."""
        return self.work / "runs" / self.variant

    @property
    def results(self) -> Path:
        """The few tables of results, committed for the default profile: predictions, runs, curves, pseudo_labels."""
        return self.root / "data" / "results"

    @property
    def study(self) -> Path:
        """Scores of the study's tests, and when and after which protocol they were made; committed for the profile `study`."""
        return (ROOT if self.root == WORK / "study" else self.root) / "data" / "study"

    @property
    def figures(self) -> Path:
        return self.root / "figures"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def tables(self) -> Path:
        """CSV tables that the report reads, computed from the results."""
        return self.root / "report" / "tables"

    @property
    def notebooks(self) -> Path:
        """Where executed notebooks are written."""
        return self.root / "notebooks"


def workspace(profile: str, variant: str = "", default: str = "synthff") -> Workspace:
    """Return the workspace of a profile: the repository itself for the default profile, else `data/work/<profile>/`."""
    work = WORK / profile
    return Workspace(ROOT, variant, work) if profile == default else Workspace(work, variant)


@contextmanager
def atomic(path: Path | str):
    """Yield a temporary sibling of `path`; rename it to `path` on success, remove it on any error.

    The temporary name keeps the file's suffix, so that writers which look at it still work, and names machine and process,
    so that no two writers of a shared folder meet.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{platform.node()}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # or a power cut could leave the new name on an empty file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def copy(source: Path | str, path: Path) -> None:
    """Copy a file, whole or not at all."""
    with atomic(path) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def alone(folder: Path):
    """Wait until no other process of this machine has a folder for itself; keep others waiting until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)  # the folder itself, so that no file is left in it
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits; raise OSError for one that can't be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path | str) -> dict:
    """Return what a JSON file holds; FileNotFoundError where there is none, ValueError for what is no JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_json(path: Path, value: dict) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
