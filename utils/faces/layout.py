"""Where FaceForensics++ keeps its videos and masks, and which of them a tree has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from utils.config import ENCODINGS, METHODS
from utils.faces.encode import BEST_FIRST

ORIGINAL = "original"
SAME_QUALITY = {"c0": "raw", "raw": "c0"}  # the download script has called lossless videos both
SUFFIXES = (".mp4", ".avi", ".mkv", ".mpg")  # of videos; FaceForensics++ has the first


def folder_of(root: Path | str, method: str, quality: str) -> Path:
    """Return where FaceForensics++ keeps the videos of a method at a quality, whether or not they are there."""
    sequences = "original_sequences/youtube" if method == ORIGINAL else f"manipulated_sequences/{method}"
    return Path(root) / sequences / quality / "videos"


def video_path(root: Path | str, method: str, quality: str, video_id: str) -> Path:
    """Return where FaceForensics++ keeps a video, whether or not it is there."""
    return folder_of(root, method, quality) / f"{video_id}.mp4"


def mask_path(root: Path | str, method: str, video_id: str) -> Path:
    """Return where the mask video of a fake lies: white where `method` has changed the picture."""
    return Path(root) / "manipulated_sequences" / method / "masks" / "videos" / f"{video_id}.mp4"


class Files:
    """The videos of a tree: each folder is listed once, for a tree of thousands lies on a slow disk perhaps."""

    def __init__(self, root: Path, made: Path | None):
        self.root, self.made, self._listed = root, made, {}

    def listed(self, folder: Path) -> dict[str, str]:
        """Return a folder's videos, name without suffix -> path."""
        if folder not in self._listed:
            names = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
            self._listed[folder] = {path.stem: str(path) for path in names if path.suffix.lower() in SUFFIXES}
        return self._listed[folder]

    def at(self, quality: str, methods: Iterable[str]) -> str:
        """Return the quality to read for another: itself under either name, or where there is none the best to make it from."""
        same = [quality, *([SAME_QUALITY[quality]] if quality in SAME_QUALITY else [])]
        others = BEST_FIRST if self.made and quality in ENCODINGS else ()
        for name in (*same, *others):
            if any(self.listed(folder_of(self.root, method, name)) for method in (ORIGINAL, *methods)):
                return name
        return quality

    def fakes_of(self, row: dict) -> list[tuple[str, str]]:
        """Return the fakes, (method, video_id), whose mask says where the face of a video is: its own, or of its target."""
        if row["method"] != ORIGINAL:
            return [(row["method"], row["video_id"])]
        (other,) = set(row["pair"].split("_")) - {row["target"]}
        return [(method, f"{row['target']}_{other}") for method in METHODS]

    def mask(self, fake: tuple[str, str]) -> str:
        """Return the path of a fake's mask video, "" where there is none."""
        return self.listed(mask_path(self.root, *fake).parent).get(fake[1], "")

    def at_source(self, row) -> Path:
        """Return the tree's own video that a row's video is to be made from."""
        return Path(self.listed(folder_of(self.root, row.method, row.made))[row.video_id])

    def row(self, row: dict, wanted: dict[str, str]) -> dict | None:
        """Return an expected row with its files, or None where the video is not there."""
        quality, method, video_id = wanted[row["quality"]], row["method"], row["video_id"]
        path = self.listed(folder_of(self.root, method, quality)).get(video_id)
        if path is None:
            return None
        mask = next(filter(None, map(self.mask, self.fakes_of(row))), "")
        made = quality if quality not in (row["quality"], SAME_QUALITY.get(row["quality"])) else ""
        if made:
            path = str(self.made / method / row["quality"] / f"{video_id}.mp4")
        return {**row, "path": path, "mask": mask, "made": made}
