"""Index of a FaceForensics++ tree: one table row a video, for the real data set and for SynthFF alike.

The layout is that of Rössler et al. 2019: `original_sequences/youtube/QUALITY/videos/NNN.mp4`,
`manipulated_sequences/METHOD/QUALITY/videos/TARGET_SOURCE.mp4`, masks in `manipulated_sequences/METHOD/masks/videos/`
and `splits/{train,val,test}.json`, lists of pairs [a, b]. Each pair gives the fakes a_b and b_a, so that a split is
closed over pairs. A tree may have a fourth list, `test_hard.json`: other people in harder videos, held back to measure
robustness. The real data set has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from utils.config import Profile, require_data

SPLITS = ("train", "val", "test")
HARD = "test_hard"  # the optional fourth split
HELD_OUT = ("val", "test", HARD)  # splits that finished runs are scored on, as far as the tree has them
ORIGINAL = "original"
COLUMNS = ["video_id", "method", "quality", "label", "target", "source", "pair", "split", "path"]
SAME_QUALITY = {"c0": "raw", "raw": "c0"}  # the download script has called lossless videos both

Splits = dict[str, list[tuple[str, str]]]


def load_splits(root: Path | str) -> Splits:
    """Return the pairs of identities of each split: {"train": [("071", "054"), ...], "val": ..., "test": ...}.

    `test_hard` comes last, where the tree has its file. Raises FileNotFoundError for another missing split file and
    ValueError for one that is not a list of pairs, or where an identity is in two pairs.
    """
    folder = Path(root) / "splits"
    names = (*SPLITS, HARD) if (folder / f"{HARD}.json").is_file() else SPLITS
    splits = {name: _read_pairs(folder / f"{name}.json") for name in names}
    owner: dict[str, str] = {}
    for name, pairs in splits.items():
        for identity in (i for pair in pairs for i in pair):
            if identity in owner:
                raise ValueError(f"{folder}: identity {identity} is in {owner[identity]} and again in {name}")
            owner[identity] = name
    return splits


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"no split file {path}: copy FaceForensics++'s splits/*.json there")
    try:
        pairs = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(pairs, list) or not all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(i, str) for i in p) for p in pairs
    ):
        raise ValueError(f'{path} must be a list of pairs such as ["071", "054"]')
    return [(a, b) for a, b in pairs]


def pair_of(a: str, b: str) -> str:
    """Return the name of a pair of identities, the same for both orders."""
    return "_".join(sorted((a, b)))


def video_path(root: Path | str, method: str, quality: str, video_id: str) -> Path:
    """Return where FaceForensics++ keeps a video, whether or not it is there."""
    sequences = "original_sequences/youtube" if method == ORIGINAL else f"manipulated_sequences/{method}"
    return Path(root) / sequences / quality / "videos" / f"{video_id}.mp4"


def mask_path(root: Path | str, method: str, video_id: str) -> Path:
    """Return where the mask video of a fake lies: white where `method` has changed the picture."""
    return Path(root) / "manipulated_sequences" / method / "masks" / "videos" / f"{video_id}.mp4"


def build_index(
    root: Path | str, methods: Iterable[str], qualities: Iterable[str], pairs_per_split: int | None = None
) -> pd.DataFrame:
    """Return one row for each video found, with the columns `COLUMNS`; label 1 is fake.

    Only the first `pairs_per_split` pairs of each split are looked for (None: all). An expected video that is not there
    is no error: `missing_counterparts` lists it. Raises FileNotFoundError if there is none at all.
    """
    root, methods, qualities = Path(root), tuple(methods), tuple(qualities)
    splits = {name: pairs[:pairs_per_split] for name, pairs in load_splits(root).items()}
    rows = [dict(row, path=str(path)) for row in _expected(splits, methods, qualities) if (path := _find(root, row))]
    if not rows:
        wanted = f"{', '.join((ORIGINAL, *methods))} at {', '.join(qualities)}"
        raise FileNotFoundError(f"no video of {wanted} below {root}: check the folder, methods and qualities")
    index = pd.DataFrame(rows, columns=COLUMNS)
    index.attrs = {"root": str(root), "methods": methods, "qualities": qualities, "pairs": _pack(splits)}
    return index


def _expected(splits: Splits, methods: Iterable[str], qualities: Iterable[str]) -> Iterator[dict]:
    """Yield the row of every video that complete splits would have, all columns but the path."""
    for split, pairs in splits.items():
        for a, b in pairs:
            for target, source in ((a, b), (b, a)):
                shared = {"target": target, "pair": pair_of(a, b), "split": split}
                for quality in qualities:
                    real = {"video_id": target, "method": ORIGINAL, "label": 0, "source": ""}
                    yield {**real, "quality": quality, **shared}
                    for method in methods:
                        fake = {"video_id": f"{target}_{source}", "method": method, "label": 1, "source": source}
                        yield {**fake, "quality": quality, **shared}


def _find(root: Path, row: dict) -> Path | None:
    for quality in (row["quality"], SAME_QUALITY.get(row["quality"])):
        if quality and (path := video_path(root, row["method"], quality, row["video_id"])).is_file():
            return path
    return None


def _pack(splits: Splits) -> str:
    """Write splits as one string: pandas copies `attrs` at each step, and a string costs nothing to copy."""
    return json.dumps(splits)


def missing_counterparts(index: pd.DataFrame) -> pd.DataFrame:
    """Return the videos that the splits promise and that `index` has not, one row each with the path where they belong.

    So a fake without its original, an original without its fake, c23 without c40. `index` must come from `build_index`
    (whose request it remembers), otherwise ValueError.
    """
    if "pairs" not in index.attrs:
        raise ValueError("missing_counterparts needs the table that build_index returned")
    asked = index.attrs
    have = set(zip(index["video_id"], index["method"], index["quality"], strict=True))
    rows = [
        dict(row, path=str(video_path(asked["root"], row["method"], row["quality"], row["video_id"])))
        for row in _expected(json.loads(asked["pairs"]), asked["methods"], asked["qualities"])
        if (row["video_id"], row["method"], row["quality"]) not in have
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def load_index(profile: Profile) -> pd.DataFrame:
    """Return `build_index` of the profile's tree; FileNotFoundError with the remedy where there is none."""
    data = profile.data
    return build_index(require_data(profile), data.methods, data.qualities, data.pairs_per_split)


def labelled_pairs(index: pd.DataFrame, fraction: float, seed: int) -> set[str]:
    """Draw the training pairs whose labels a semi-supervised trainer may use: whole pairs, at least one.

    The draw depends on the set of training pairs and the seed alone, and a smaller one is part of a larger one. Raises
    ValueError for a fraction outside (0, 1] and for an index without training videos.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the labelled fraction must lie in (0, 1], not {fraction}")
    pairs = sorted(set(index.loc[index["split"] == "train", "pair"]))
    if not pairs:
        raise ValueError("the index has no training videos to draw labelled pairs from")
    count = max(1, round(fraction * len(pairs)))
    return set(np.random.default_rng(seed).permutation(pairs)[:count].tolist())


def straddling_sources(splits: Splits, conversion: Path | str) -> pd.DataFrame:
    """List the source videos of which several sequences were cut that lie in different splits.

    `conversion` is FaceForensics++'s conversion_dict.json: {"000": "YOUTUBE_ID N", ...}, the N-th sequence of a source.
    Its identities are disjoint by number only: two numbers cut from one source may show the same person.
    """
    sources = json.loads(Path(conversion).read_text())
    rows = [
        {"source": sources[i].rsplit(" ", 1)[0], "sequence": i, "split": split}
        for split, pairs in splits.items()
        for i in sorted(i for pair in pairs for i in pair)
        if i in sources
    ]
    table = pd.DataFrame(rows, columns=["source", "sequence", "split"])
    straddles = table.groupby("source")["split"].transform("nunique") > 1
    return table[straddles].sort_values(["source", "sequence"]).reset_index(drop=True)
