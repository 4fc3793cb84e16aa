"""Who is in train, val and test: pairs of identities, closed over pairs, and sources that lie in two of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from utils.paths import FFPP_SPLITS, read_json

SPLITS = ("train", "val", "test")
HARD = "test_hard"  # an optional split
HELD_OUT = ("val", "test", HARD)  # splits that finished runs are scored on, as far as the tree has them
POOL = "pool"  # of the study: people whose labels are withheld
SEALED = ("test2", "test2_unseen")  # of the study: scored once, by `run/study.py`, after its protocol is committed
CONVERSION = "conversion_dict.json"  # of FaceForensics++: {"000": "YOUTUBE_ID N", ...}, the N-th sequence of a source

Splits = dict[str, list[tuple[str, str]]]


def load_splits(root: Path | str) -> Splits:
    """Return the pairs of identities of each split: {"train": [("071", "054"), ...], "val": ..., "test": ...}.

    `test_hard`, `pool` and the SEALED ones come last, where the tree has their files; with the SEALED ones it needs no `test`.
    A tree without a folder `splits` is taken for FaceForensics++: the official splits come with this repository. Raises
    FileNotFoundError for a split file that is missing from the folder and ValueError for one that is not a list of pairs of
    numbers, or where an identity is in two pairs.
    """
    folder = Path(root) / "splits"
    folder = folder if folder.is_dir() else FFPP_SPLITS
    splits = _read_splits(folder)
    owner: dict[str, str] = {}
    for name, pairs in splits.items():
        for identity in (i for pair in pairs for i in pair):
            if identity in owner:
                raise ValueError(f"{folder}: identity {identity} is in {owner[identity]} and again in {name}")
            owner[identity] = name
    return splits


def _read_splits(folder: Path) -> Splits:
    there = [name for name in (*SPLITS, HARD, POOL, *SEALED) if (folder / f"{name}.json").is_file()]
    needed = SPLITS[:2] if set(SEALED) <= set(there) else SPLITS
    return {name: _read_pairs(folder / f"{name}.json") for name in dict.fromkeys((*needed, *there))}


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"no split file {path}: copy FaceForensics++'s splits/*.json there")
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError(f'{path} must be a list of pairs such as ["071", "054"]')
    for identity in (i for pair in pairs for i in pair):
        if not isinstance(identity, str) or not re.fullmatch(r"\d{1,6}", identity, re.ASCII):  # they become file names
            raise ValueError(f'{path} must be a list of pairs such as ["071", "054"], not of {identity!r}')
    return [(a, b) for a, b in pairs]


def pair_of(a: str, b: str) -> str:
    """Return the name of a pair of identities, the same for both orders."""
    return "_".join(sorted((a, b)))


def conversion_of(root: Path | str, splits: Splits) -> Path | None:
    """Return the file that names the source of each sequence of a tree, or None where nothing does.

    It lies in the tree or in its folder `splits`; for the official splits it comes with this repository. Other splits number
    other people: what we carry says nothing of them.
    """
    own = [path for path in (Path(root) / "splits" / CONVERSION, Path(root) / CONVERSION) if path.is_file()]
    official = [FFPP_SPLITS / CONVERSION] if splits == _read_splits(FFPP_SPLITS) else []
    return next(iter([*own, *official]), None)


def deal(index: pd.DataFrame, columns: Sequence[str], parts: Sequence[float], seed: int | Sequence[int]) -> np.ndarray:
    """Return the part (N,) that each row of a face table is dealt to, 0 .. len(parts) - 1, or -1 for what is left over.

    Rows that agree in `columns` stay together. `parts` are shares of these groups, shuffled by seed (a number or several).
    """
    group = index.groupby(list(columns)).ngroup().to_numpy()
    count = group.max() + 1
    ends = np.round(np.cumsum(parts) * count)
    place = np.empty(count, dtype=int)
    place[np.random.default_rng(seed).permutation(count)] = np.arange(count)
    part = np.searchsorted(ends, place, side="right")
    return np.where(part < len(ends), part, -1)[group]


def straddling_sources(splits: Splits, conversion: Path | str) -> pd.DataFrame:
    """List the source videos of which several sequences were cut that lie in different splits.

    `conversion` is FaceForensics++'s conversion_dict.json. Its identities are disjoint by number only: two numbers cut from one
    source may show the same person. Columns source, sequence, split. Raises ValueError for a file that is no such list.
    """
    try:
        sources = read_json(conversion)
        named = {i: source.rsplit(" ", 1)[0] for i, source in sources.items()}
    except (ValueError, AttributeError, RecursionError):
        raise ValueError(f'{conversion} must be a JSON object such as {{"000": "YOUTUBE_ID 0"}}: copy it again') from None
    rows = [
        {"source": named[i], "sequence": i, "split": split}
        for split, pairs in splits.items()
        for i in sorted(i for pair in pairs for i in pair)
        if i in named
    ]
    table = pd.DataFrame(rows, columns=["source", "sequence", "split"])
    straddles = table.groupby("source")["split"].transform("nunique") > 1
    return table[straddles].sort_values(["source", "sequence"]).reset_index(drop=True)


def without_straddling(splits: Splits, straddling: pd.DataFrame) -> Splits:
    """Return splits of which no source is in two: its pairs leave the split that is farther from the test.

    From train before val, and from val before test, whole pairs at a time.
    """
    order = {name: place for place, name in enumerate(splits)}
    place = straddling["split"].map(order)
    last = place.groupby(straddling["source"]).transform("max")
    leave = set(straddling.loc[place < last, "sequence"])
    return {name: [pair for pair in pairs if not leave & set(pair)] for name, pairs in splits.items()}
