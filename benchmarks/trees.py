"""Trees in the layout of FaceForensics++ of any size: SynthFF's clips again and again, as links under new ids."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

from utils.config import DataConfig
from utils.faces.ffpp import ORIGINAL, SPLITS, load_splits, video_path

PART = {"train": 0.72, "val": 0.14, "test": 0.14}  # of the pairs, as in FF++
METHOD, QUALITIES = "NeuralTextures", ("c23", "c40")
VIDEOS_A_PAIR = 8  # two originals and two fakes, in two qualities


def make_tree(root: Path, videos: int) -> Path:
    """Make a tree of so many videos, a multiple of 8 and at least 24: pairs of new identities, split like FF++; return it.

    A tree that is there stays. Raises ValueError for another number of videos.
    """
    pairs = videos // VIDEOS_A_PAIR
    if videos % VIDEOS_A_PAIR or pairs < len(SPLITS):
        raise ValueError(f"{videos} videos: a multiple of {VIDEOS_A_PAIR} from {len(SPLITS) * VIDEOS_A_PAIR} on is needed")
    source = DataConfig().root
    people = [pair for split in SPLITS for pair in load_splits(source)[split]]
    held = {split: max(1, round(PART[split] * pairs)) for split in SPLITS[1:]}
    counts = {"train": pairs - sum(held.values()), **held}
    number = 0
    for split in SPLITS:
        names = [(f"{2 * n:04d}", f"{2 * n + 1:04d}") for n in range(number, number + counts[split])]
        for place, pair in enumerate(names, number):
            link_pair(root, pair, source, people[place % len(people)])
        number += counts[split]
        (root / "splits").mkdir(parents=True, exist_ok=True)
        (root / "splits" / f"{split}.json").write_text(json.dumps(names))
    return root


def link_pair(root: Path, new: tuple[str, str], source: Path | str, old: tuple[str, str]) -> None:
    """Link the eight videos of a pair of SynthFF under the ids of a new pair."""
    for quality, (a, b) in product(QUALITIES, ((0, 1), (1, 0))):
        for method, ids in ((ORIGINAL, (a,)), (METHOD, (a, b))):
            there, here = ("_".join(pair[i] for i in ids) for pair in (old, new))
            link = video_path(root, method, quality, here)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(Path(video_path(source, method, quality, there)).resolve())
