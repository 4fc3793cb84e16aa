"""Trees in the layout and under the numbers of FaceForensics++, whose videos are SynthFF's clips: whole, partial and large."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from clips import encode

from utils.config import get_profile
from utils.faces import layout
from utils.faces.splits import SPLITS, load_splits
from utils.faces.video import read_frames
from utils.paths import FFPP_SPLITS

SYNTHFF = Path(get_profile("synthff").data.root)


def renamed(pairs: dict[str, int]) -> list[tuple[str, str, tuple[str, str], tuple[str, str]]]:
    """Return (split, ...) of so many pairs a split: the official pair, and SynthFF's pair that stands in for it."""
    official, ours = load_splits(FFPP_SPLITS), load_splits(SYNTHFF)  # a folder without `splits` has the official ones
    rows = []
    for split in SPLITS:
        count = pairs.get(split, 0)
        rows += [(split, *both) for both in zip(official[split][:count], (ours[split] * count)[:count], strict=True)]
    return rows


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def ffpp_tree(root: Path, pairs: dict[str, int], methods=("NeuralTextures",), qualities=("c23", "c40"), masks=True) -> Path:
    """Link SynthFF's clips as the first pairs of each split of FaceForensics++; every method gets the same fakes.

    `qualities` may map a quality to the one of SynthFF that stands in for it. The tree has no folder `splits`.
    """
    stands_in = qualities if isinstance(qualities, dict) else {quality: quality for quality in qualities}
    for _, official, ours in renamed(pairs):
        for (a, b), (x, y) in ((official, ours), (official[::-1], ours[::-1])):
            for quality, like in stands_in.items():
                real = layout.video_path(root, layout.ORIGINAL, quality, a)
                link(real, layout.video_path(SYNTHFF, layout.ORIGINAL, like, x))
                for method in methods:
                    fake = layout.video_path(root, method, quality, f"{a}_{b}")
                    link(fake, layout.video_path(SYNTHFF, "NeuralTextures", like, f"{x}_{y}"))
            for method in methods if masks else ():
                link(layout.mask_path(root, method, f"{a}_{b}"), layout.mask_path(SYNTHFF, "NeuralTextures", f"{x}_{y}"))
    return root


def small_clip(path: Path, source: Path, frames: int = 40, side: int = 128) -> Path:
    """Encode the middle of a clip's pictures, where the face is, as a clip that decodes in no time; once."""
    if path.is_file():
        return path
    pictures = read_frames(source, max_frames=frames)[1]
    height, width = pictures.shape[1:3]
    top, left = (height - side) // 2, (width - side) // 2
    return encode(path, np.ascontiguousarray(pictures[:, top : top + side, left : left + side]))


def large_tree(root: Path, pairs: dict[str, int], work: Path, methods=("Deepfakes", "NeuralTextures")) -> Path:
    """Link a few small clips under the names of many videos at c23 and c40; `work` keeps the clips."""
    stand_ins: dict[tuple, Path] = {}
    for split, official, ours in renamed(pairs):
        ours = load_splits(SYNTHFF)[split][int(official[0]) % 2]  # two pairs of people a split are enough
        for (a, b), (x, y) in ((official, ours), (official[::-1], ours[::-1])):
            for method, quality in product((layout.ORIGINAL, *methods), ("c23", "c40")):
                fake = method != layout.ORIGINAL
                key = ("NeuralTextures" if fake else method, quality, f"{x}_{y}" if fake else x)
                if key not in stand_ins:
                    stand_ins[key] = small_clip(work / f"{'-'.join(key)}.mp4", layout.video_path(SYNTHFF, *key))
                link(layout.video_path(root, method, quality, f"{a}_{b}" if fake else a), stand_ins[key])
    return root


def spoil(root: Path) -> dict[str, list[Path]]:
    """Take five videos of a tree away, damage three and put odd ones in the place of four; return them by kind."""
    videos = sorted((root / "original_sequences" / "youtube" / "c40" / "videos").iterdir())
    lost, broken, odd = videos[3:8], videos[10:13], videos[15:19]
    whole = broken[0].read_bytes()
    for path in (*lost, *broken, *odd):
        path.unlink()
    broken[0].write_bytes(b"no video")
    broken[1].write_bytes(whole[: len(whole) // 3])  # the index of an MP4 stands at its end
    broken[2].mkdir()
    pictures = read_frames(layout.video_path(SYNTHFF, layout.ORIGINAL, "c23", "000"), max_frames=40)[1]
    for path, suffix, codec, pix_fmt in zip(
        odd, (".avi", ".mkv", ".mpg", ".mp4"), ("mpeg4", "ffv1", "mpeg2video", "libx264"),
        ("yuv420p", "yuv444p", "yuv420p", "yuv420p10le"), strict=True,
    ):  # fmt: skip
        side = 155 if codec == "ffv1" else 160
        encode(
            path.with_suffix(suffix), np.ascontiguousarray(pictures[:, 48 : 48 + side, 48:208]), codec=codec, pix_fmt=pix_fmt
        )
    return {"lost": lost, "broken": broken, "odd": odd}
