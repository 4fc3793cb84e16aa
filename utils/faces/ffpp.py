"""Index of a FaceForensics++ tree: one table row a video, for the real data set and for SynthFF alike.

    python -m utils.faces.ffpp check PATH

says what a tree holds, what it lacks and what follows. The layout is that of Rössler et al. 2019:
`original_sequences/youtube/QUALITY/videos/NNN.mp4`, `manipulated_sequences/METHOD/QUALITY/videos/TARGET_SOURCE.mp4`, masks in
`manipulated_sequences/METHOD/masks/videos/` and `splits/{train,val,test}.json`, lists of pairs [a, b]. Each pair gives the
fakes a_b and b_a, so that a split is closed over pairs. A tree may have a fourth list, `test_hard.json`: other people in
harder videos, held back to measure robustness. The real data set has none.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from utils.config import CRF, METHODS, Profile, get_profile, require_data
from utils.faces import survey
from utils.faces.encode import BEST_FIRST, encode_all, record_of
from utils.faces.layout import ORIGINAL, Files, folder_of, mask_path, video_path
from utils.faces.splits import (
    HARD,
    HELD_OUT,
    POOL,
    SEALED,
    SPLITS,
    Splits,
    conversion_of,
    load_splits,
    pair_of,
    straddling_sources,
    without_straddling,
)
from utils.paths import write_json

__all__ = [  # of the modules on layout and splits, what callers find here, too
    "HARD", "HELD_OUT", "ORIGINAL", "POOL", "SEALED", "SPLITS",
    "conversion_of", "load_splits", "mask_path", "pair_of", "straddling_sources",
    "video_path",
]  # fmt: skip

SHOWN = 20  # unreadable videos that the check names
COLUMNS = ["video_id", "method", "quality", "label", "target", "source", "pair", "split", "path", "mask", "made"]


def build_index(
    root: Path | str, methods: Iterable[str], qualities: Iterable[str], pairs_per_split: int | None = None,
    exclude_straddling: bool = False, made: Path | None = None, only: Iterable[str] = (),
) -> pd.DataFrame:  # fmt: skip
    """Return one row for each video found, with the columns `COLUMNS`; label 1 is fake.

    `only` are the splits that are read (none: all); ValueError for one that the tree has not.

    `pairs_per_split` takes only the first pairs of each split of which there is any video (None: all). With
    `exclude_straddling` no source of several sequences is in two splits. A quality of which the tree has no video at all
    is to be made from the best that it has, below the folder `made`: the column `made` names that, "" for the tree's own
    videos (None: not made). `mask` is "" where there is none. An expected video that is not there is no error:
    `missing_counterparts` lists it. Raises FileNotFoundError if there is none at all.
    """
    root, methods, qualities = Path(root), tuple(methods), tuple(qualities)
    splits, files = load_splits(root), Files(root, made)
    if exclude_straddling and (conversion := conversion_of(root, splits)):
        splits = without_straddling(splits, straddling_sources(splits, conversion))
    if missing := sorted(set(only) - set(splits)):
        raise ValueError(f"{root} has no split {', '.join(missing)}: it has {', '.join(splits)}")
    splits = {name: pairs for name, pairs in splits.items() if name in (tuple(only) or splits)}
    wanted = {quality: files.at(quality, methods) for quality in qualities}
    found = [files.row(row, wanted) for row in _expected(splits, methods, qualities)]
    rows = [row for row in found if row]
    if not rows:
        names = f"{', '.join((ORIGINAL, *methods))} at {', '.join(qualities)}"
        raise FileNotFoundError(f"no video of {names} below {root}: check the folder, methods and qualities")
    index = pd.DataFrame(rows, columns=COLUMNS)
    if pairs_per_split is not None:
        there = index.drop_duplicates(["split", "pair"]).groupby("split", sort=False)["pair"].head(pairs_per_split)
        index = index[index["pair"].isin(there)].reset_index(drop=True)
        splits = {name: [pair for pair in pairs if pair_of(*pair) in set(there)] for name, pairs in splits.items()}
    index.attrs = {"root": str(root), "methods": methods, "qualities": qualities, "pairs": _pack(splits)}
    return index


def _expected(splits: Splits, methods: Iterable[str], qualities: Iterable[str]) -> Iterator[dict]:
    """Yield the row of every video that complete splits would have, all columns but the files."""
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
    return pd.DataFrame(rows, columns=COLUMNS[:-2])


def methods_there(root: Path | str, methods: Iterable[str]) -> tuple[str, ...]:
    """Return those of the methods that the tree has; where it has none of them, all of FaceForensics++'s that it has."""

    def there(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in names if (Path(root) / "manipulated_sequences" / name).is_dir())

    return there(methods) or there(METHODS) or tuple(methods)


def load_index(profile: Profile, n_jobs: int = -1) -> pd.DataFrame:
    """Return `build_index` of the profile's tree, with what the tree lacks made: a quality of which it has no video.

    Those are encoded below the workspace's folder `made`, which takes a while the first time; a video that can't be read is
    left out, with a warning. Raises FileNotFoundError with the remedy where there is no tree, OSError for what can't be
    written.
    """
    index = plan_index(profile)
    makes, mark = index[index["made"] != ""], profile.workspace.made / "made.json"
    if makes.empty:
        mark.unlink(missing_ok=True)
        return index
    files, before = Files(Path(index.attrs["root"]), None), profile.workspace.made_from()
    for row in makes.itertuples():
        if before.get(row.quality, row.made) != row.made and not record_of(Path(row.path)).is_file():
            Path(row.path).unlink(missing_ok=True)  # of another quality, from before there were records
    todo = [(files.at_source(row), Path(row.path), row.quality) for row in makes.itertuples()]
    for error in encode_all(todo, n_jobs).values():
        warnings.warn(f"left out of what is made: {error}", stacklevel=2)
    write_json(mark, _lacked(index).set_index("quality")["made"].to_dict())
    there = (index["made"] == "") | index["path"].map(lambda path: Path(path).is_file())
    return index[there].reset_index(drop=True)


def plan_index(profile: Profile) -> pd.DataFrame:
    """Return the index of the profile's tree without making anything: rows of what is to be made name files that may not be."""
    data, root = profile.data, require_data(profile)
    methods = methods_there(root, data.methods)
    made = profile.workspace.made
    return build_index(root, methods, data.qualities, data.pairs_per_split, data.exclude_straddling, made, data.splits)


def notes(index: pd.DataFrame, profile: Profile) -> list[str]:
    """Return what a reader must know of an index before reading on, a sentence each: missing methods, made qualities."""
    lines, methods = [], sorted(set(index["method"]) - {ORIGINAL})
    if missing := [name for name in profile.data.methods if name not in methods]:
        read = ", ".join(methods) or "originals alone"
        lines.append(f"The tree has no {' and '.join(missing)}: what is read is {read} (FFPP_METHODS chooses).")
    for row in _lacked(index).itertuples():
        better = BEST_FIRST.index(row.made) < BEST_FIRST.index(row.quality)
        limit = "as FaceForensics++ makes it from lossless videos" if better else f"so it holds no more than {row.made} does"
        lines.append(
            f"The tree has no {row.quality}: it is made here from {row.made} by H.264 at CRF {CRF[row.quality]}, {limit}."
        )
    return lines


def _lacked(index: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each quality that the tree ought to have and that is made here; UNSEEN ones are meant to be made."""
    return index[(index["made"] != "") & index["quality"].isin(list(CRF))].drop_duplicates("quality")


def lacking(table: pd.DataFrame, splits: Iterable[str] = SPLITS) -> list[str]:
    """Return which class is in no video, or face, of a table, by split: ["test has no fake"]; empty where all are there."""
    return [
        f"{split} has no {name}"
        for split in splits
        for name, label in (("original", 0), ("fake", 1))
        if not ((table["split"] == split) & (table["label"] == label)).any()
    ]


def labelled_pairs(index: pd.DataFrame, fraction: float, seed: int) -> set[str]:
    """Draw the training pairs whose labels a semi-supervised trainer may use: whole pairs, at least one.

    The draw depends on the set of training pairs and the seed alone, and a smaller one is part of a larger one. Raises
    ValueError for a fraction outside (0, 1] and for an index without training videos.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the labelled fraction must lie in (0, 1], not {fraction}")
    pairs = shuffled_pairs(index, "train", seed)
    if not pairs:
        raise ValueError("the index has no training videos to draw labelled pairs from")
    return set(pairs[: max(1, round(fraction * len(pairs)))])


def shuffled_pairs(index: pd.DataFrame, split: str, seed: int) -> list[str]:
    """Return the identity pairs of a split in an order that depends on them and the seed alone: the first few are a draw."""
    pairs = sorted(set(index.loc[index["split"] == split, "pair"]))
    return np.random.default_rng(seed).permutation(pairs).tolist()


def check(root: Path, profile: Profile, n_jobs: int = -1) -> tuple[list[str], bool]:
    """Return what a tree holds, lacks and takes, as lines, and whether all notebooks can run on it.

    `profile` says which methods and qualities are asked for and how faces are cut out.
    """
    profile = replace(profile, data=replace(profile.data, root=str(root)))
    require_data(profile)
    splits, planned = load_splits(root), plan_index(profile)
    methods = [name for name in METHODS if (root / "manipulated_sequences" / name).is_dir()]
    files = Files(root, None)
    qualities = [name for name in BEST_FIRST if any(files.listed(folder_of(root, one, name)) for one in (ORIGINAL, *methods))]
    found = build_index(root, methods, qualities)
    promised = pd.DataFrame(_expected(splits, methods, qualities))
    facts, broken = survey.probe_all(list(found["path"]), n_jobs)
    origin = "" if (root / "splits").is_dir() else " (the official ones: the tree has no folder splits)"
    lines = [
        f"{root}: {len(found)} of the {len(promised)} videos that its splits promise{origin}",
        "",
        survey.counts(found, promised).to_string(index=False),
        "",
    ]
    asked = list(_expected(splits, [name for name in planned["method"].unique() if name != ORIGINAL], profile.data.qualities))
    lines += _check_pairs(planned, pd.DataFrame(asked), splits)
    lines += _check_sources(root, splits, profile.data.exclude_straddling)
    lines += notes(planned, profile)
    lines += _check_files(root, splits, methods, qualities, broken)
    if len(facts):
        hours, size = facts["seconds"].sum() / 3600, facts["bytes"].sum() / 1e9
        lines.append(f"readable: {len(facts)} videos, {hours:.2g} hours, {size:.2g} GB; {survey.shapes(facts)}")
        read = facts[facts["path"].isin(planned["path"])]
        costs, damaged = survey.cost(read, int((planned["made"] != "").sum()), profile.faces, profile.workspace.faces)
        lines += [*_unreadable(damaged), *costs]
        broken |= damaged
    lacks = lacking(planned)
    lines.append(f"notebooks 03 to 07 need real and fake videos in train, val and test: {'; '.join(lacks) or 'all there'}")
    return lines, not lacks and not broken


def _check_pairs(planned: pd.DataFrame, promised: pd.DataFrame, splits: Splits) -> list[str]:
    whole = survey.complete_pairs(planned, promised)
    methods = " and ".join(sorted(set(promised["method"]) - {ORIGINAL}))
    shown = ", ".join(f"{split} {whole.get(split, '0')}" for split in splits)
    what = f"both originals, both fakes of {methods}, at {' and '.join(promised['quality'].unique())}"
    lines = [f"complete pairs ({what}): {shown}"]
    missing = missing_counterparts(planned)
    if len(missing):
        first = ", ".join(f"{row.method}/{row.quality}/{row.video_id}" for row in missing.head(5).itertuples())
        lines.append(f"missing of these: {len(missing)} videos; the first: {first}")
    return lines


def _check_sources(root: Path, splits: Splits, excluded: bool) -> list[str]:
    conversion = conversion_of(root, splits)
    if conversion is None:
        return ["sources: no conversion_dict.json, so nobody can say whether two splits share a source video"]
    straddling = straddling_sources(splits, conversion)
    if straddling.empty:
        return ["sources: none is in two splits"]
    gone = {name: len(splits[name]) - len(pairs) for name, pairs in without_straddling(splits, straddling).items()}
    left = ", ".join(f"{count} pairs of {name}" for name, count in gone.items() if count)
    numbers = "; ".join("/".join(part) for _, part in straddling.groupby("source")["sequence"])
    what = f"{left} are left out" if excluded else f"{left} would be left out (exclude_straddling is off)"
    return [f"sources: {straddling['source'].nunique()} are in two splits ({numbers}); {what}"]


def _check_files(root: Path, splits: Splits, methods: list[str], qualities: list[str], broken: dict[str, str]) -> list[str]:
    pairs = [pair for part in splits.values() for pair in part]
    known = {i for pair in pairs for i in pair} | {f"{a}_{b}" for a, b in pairs} | {f"{b}_{a}" for a, b in pairs}
    folders = [folder_of(root, method, quality) for method in (ORIGINAL, *methods) for quality in qualities]
    others, lines = survey.unlisted(root, known, folders), []
    if others:
        lines.append(f"in no split, left alone: {len(others)} files; the first: {', '.join(others[:3])}")
    return lines + _unreadable(broken)


def _unreadable(broken: dict[str, str]) -> list[str]:
    lines = [f"unreadable: {error}" for error in list(broken.values())[:SHOWN]]
    return [*lines, f"and {len(broken) - SHOWN} more unreadable videos"] if len(broken) > SHOWN else lines


def main(argv: list[str] | None = None) -> int:
    """Check a tree; exit code 0 where everything can run, 1 where something lacks or is unreadable, 2 for a bad request."""
    parser = argparse.ArgumentParser(prog="python -m utils.faces.ffpp", description="What does a FaceForensics++ tree hold?")
    parser.add_argument("command", choices=["check"])
    parser.add_argument("path", type=Path, help="the folder that has original_sequences/ and manipulated_sequences/")
    parser.add_argument("--profile", default="ffpp", help="whose methods, qualities and settings are meant (default: ffpp)")
    arguments = parser.parse_args(argv)
    try:
        lines, fine = check(arguments.path.resolve(), get_profile(arguments.profile))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
