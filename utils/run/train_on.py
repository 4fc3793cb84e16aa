"""Train a detector on anybody's real videos, without any fake: real faces against their self-rendered twins.

    python -m utils.run.train_on FOLDER [--out data/models/NAME] [--name NAME] [--seed 0] [--steps 300] [--jobs 2]

FOLDER holds videos of real people, one folder a person, or all in one place: then each file counts as a person. People are
split into train, val and test; the model is calibrated on val, and its card says what it does on test, on self-rendered twins:
what it does to fakes of other kinds nobody has measured. Needs six people whose faces are found. What was done is kept below
data/work/own/ and read again by the next call; videos that can't be read, and people without a face, are named and left out.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from utils.config import CRF, INSTRUMENT, FacesConfig, Profile, SelfRenderedConfig, get_profile
from utils.faces import crops
from utils.faces.ffpp import ORIGINAL
from utils.faces.video import codecs_of
from utils.learn import checkpoints, packaged
from utils.learn.dataset import FaceSet
from utils.learn.self_rendered import PHASE, faces_with_twins, self_rendered, twin_maker
from utils.paths import PACKAGED, WORK, Workspace
from utils.run.arguments import at_least, processes
from utils.run.package import about_run, finish, refuse_others, whole

VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv"}
PARTS = {"train": 0.7, "val": 0.15, "test": 0.15}  # of the people
LEAST_PEOPLE = 6
FRAMES = 16  # of a video, spread over it


@dataclass(frozen=True)
class Own(Profile):
    """The profile of somebody's own videos, in a workspace of their own."""

    folder: str = ""

    @property
    def workspace(self) -> Workspace:
        key = hashlib.sha256(str(Path(self.folder).resolve()).encode()).hexdigest()[:12]
        return Workspace(WORK / "own" / key, self.variant)


def own_profile(folder: Path, steps: int | None = None) -> Own:
    """Return the settings of the network that comes with the repository, for the videos of a folder."""
    base = get_profile("shipped")
    models = {name: replace(model, steps=steps or model.steps) for name, model in base.models.items()}
    about = {name: getattr(base, name) for name in base.__dataclass_fields__} | {"name": "own", "models": models, "changes": {}}
    data = replace(base.data, name=plain(folder.resolve().name), root=str(folder), qualities=tuple(CRF))
    faces = FacesConfig(size=base.faces.size, detect_every=1, max_frames=FRAMES, masks=False)
    return Own(**about | {"data": data, "faces": faces}, folder=str(folder))


def plain(name: str) -> str:
    """Return a name as a card may have it: in one line that can be printed, 100 characters at most."""
    return "".join(letter if letter.isprintable() else " " for letter in name).strip()[:100] or "videos"


def find_people(folder: Path) -> dict[str, list[Path]]:
    """Return the videos of each person: of each folder below, or where there is none of each file.

    What has a name that begins with a dot is no video (macOS puts `._x.mp4` beside `x.mp4`). Raises FileNotFoundError where
    the folder is missing, and ValueError where it holds too few people, or files beside folders.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in VIDEOS and path.is_file())
    found = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    loose = [path for path in found if path.parent == folder]
    alone = len(loose) == len(found)
    if loose and not alone:
        raise ValueError(f"{folder} holds folders and {loose[0].name!r} beside them: move each file to its person's folder")
    people: dict[str, list[Path]] = {}
    for path in found:
        people.setdefault(path.stem if alone else path.relative_to(folder).parts[0], []).append(path)
    if len(people) < LEAST_PEOPLE:
        what = "files with different names" if alone else "folders of videos"
        raise ValueError(f"{folder} holds videos of {len(people)} people ({what}): at least {LEAST_PEOPLE} are needed")
    return people


def split_people(people: list[str], seed: int) -> dict[str, str]:
    """Return the split of each person, drawn by the seed; val and test get one person at least."""
    order = np.random.default_rng(seed).permutation(sorted(people)).tolist()
    held = {split: max(1, round(PARTS[split] * len(order))) for split in ("val", "test")}
    names = ["val"] * held["val"] + ["test"] * held["test"]
    return {person: names[place] if place < len(names) else "train" for place, person in enumerate(order)}


def index_of(people: dict[str, list[Path]]) -> pd.DataFrame:
    """Return one row a video, as the index of a tree has them; a person takes the place of an identity pair.

    Nobody has a split yet.
    """
    rows = []
    for number, paths in enumerate(people.values()):
        for path in paths:
            about = {"video_id": f"{len(rows):06d}", "method": ORIGINAL, "quality": next(iter(CRF)), "label": 0}
            name = f"{number:06d}"
            rows.append(about | {"target": name, "source": "", "pair": name, "split": "", "path": str(path)})
    return pd.DataFrame(rows)


def with_splits(found: pd.DataFrame, people: list[str], seed: int) -> pd.DataFrame:
    """Return faces of videos of `index_of` with the splits of their people; who shows no face is named, and drawn for none.

    Raises ValueError where too few people are left.
    """
    names = {f"{number:06d}": person for number, person in enumerate(people)}
    shown = set(found["target"])
    for number, person in names.items():
        if number not in shown:
            print(f"left out: {person}, of whom no video shows a face", file=sys.stderr)
    if len(shown) < LEAST_PEOPLE:
        raise ValueError(f"faces were found of {len(shown)} of {len(people)} people: at least {LEAST_PEOPLE} are needed")
    splits = split_people([names[number] for number in shown], seed)
    return found.assign(split=[splits[names[number]] for number in found["target"]])


def train_on(
    folder: Path, out: Path, name: str, seed: int = 0, steps: int | None = None, jobs: int = -1,
    settings: SelfRenderedConfig | None = None,
) -> packaged.Packaged:  # fmt: skip
    """Extract, train, calibrate and measure; return the packaged model. Raises what the steps raise."""
    refuse_others(out)
    profile, settings = own_profile(folder, steps), settings or SelfRenderedConfig()
    people = find_people(folder)
    index = index_of(people)
    crops.extract_all(index, profile.faces, profile.workspace.faces, jobs)
    for failure in crops.read_failures(profile.workspace.faces).itertuples():
        print(f"left out: {failure.error}", file=sys.stderr)
    found, pixels = crops.load_crops(profile)
    faces = FaceSet(with_splits(found, list(people), seed), pixels)
    model = self_rendered(profile, faces, seed, settings).cpu()
    make = twin_maker(profile, faces, seed, settings)
    parts = {split: faces_with_twins(profile, faces, split, make, settings, seed) for split in PARTS}
    train, val = faces.select(split="train").index, faces.select(split="val").index["video_id"]
    videos = [Path(path) for path in index.loc[index["video_id"].isin(train["video_id"]), "path"]]
    gauge = packaged.fit_gauge(model, videos[:INSTRUMENT.gauge_videos], profile.faces, own=None, jobs=jobs)
    run = profile.workspace.runs / checkpoints.run_name(PHASE, profile.student_model, seed)
    trained_on = f"{train['target'].nunique()} real people in {len(videos)} videos of {profile.data.name}, and no fake"
    both = FaceSet.joined([parts["train"], parts["val"]])
    with whole(out) as making:
        about, codecs = about_run(run, rendered=False), codecs_of(index.loc[index["video_id"].isin(val), "path"])
        made = packaged.package(model, both, gauge, profile, making, name, trained_on, codecs, **about)
        return finish(made, making, parts["test"])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.run.train_on", description="Train on real videos, without fakes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", help="of the model (default: that of the folder)")
    parser.add_argument("--out", type=Path, help="its folder (default: data/models/NAME)")
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--steps", type=at_least(1), help="of the optimiser (default: those of the profile `shipped`)")
    parser.add_argument("--jobs", type=processes, default=-1, help="processes that cut out faces (default: one a core)")
    arguments = parser.parse_args(argv)
    name = plain(arguments.name or arguments.folder.resolve().name)
    out = arguments.out or PACKAGED / name
    try:
        if not arguments.out and out.exists():
            raise FileExistsError(f"there is a model at {out}: give this one another --name, or --out FOLDER to replace it")
        model = train_on(arguments.folder, out, name, arguments.seed, arguments.steps, arguments.jobs)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"packaged {model.name} in {out}: score videos with --model {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
