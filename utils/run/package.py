"""Make a network that can be handed on, with its calibration, its limits and its model card, of a trained run.

    python -m utils.run.package [RUN] [--profile shipped] [--out data/models/NAME] [--name NAME]

Without RUN it is the profile's oracle, trained if need be: `make model` makes the one that comes with the repository. The faces
of the profile must have been extracted (`utils.run.extract`). It is calibrated on the split val; its card says what it does on
the held-out splits.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from utils.config import CRF, INSTRUMENT, NETWORKS, PROFILES, FacesConfig, Profile, get_profile
from utils.faces import ffpp
from utils.faces.video import codecs_of
from utils.learn import checkpoints, packaged
from utils.learn.dataset import FaceSet, load_faces
from utils.learn.noisy_student import supervise
from utils.learn.packaged import Packaged
from utils.paths import PACKAGED, write_json
from utils.results.model_card import NAME, measured, opinions, write_card

SHIPPED_PROFILE = "shipped"  # that of the network that comes with the repository
FILES = {packaged.CARD, packaged.WEIGHTS, packaged.VALIDATED, NAME}  # of a packaged model
NOT_FOR = {
    True: "it has never seen a real person, and what it knows of rendered faces says nothing about filmed ones.",
    False: "a score is evidence beside other evidence.",
}
FAILS = {
    True: """People of the data set are drawn from a parametric model of shape, skin and hair; error rates by group say nothing
about groups of real people, and were not measured.""",
    False: "Error rates by group were not measured: the data set says nothing about who is in it.",
}


def about_run(folder: Path, rendered: bool) -> dict:
    """Return what a card says of a run besides what is validated."""
    config, result = (checkpoints.read_json(folder / name) for name in ("config.json", "result.json"))
    return {
        "label": NETWORKS[config["model"]].label, "licence": "MIT", "not_for": NOT_FOR[rendered], "fails": FAILS[rendered],
        "run": {
            "name": config["run"], "hash": config["hash"], "git_commit": config["git_commit"], "steps": result["steps"],
            "precision": config["train_config"]["precision"], "versions": config["versions"],
            "weights": config["model_config"]["weights"],
        },
    }  # fmt: skip


def gauged(profile: Profile, index: pd.DataFrame) -> tuple[list[Path], FacesConfig, int]:
    """Return videos to fit a gauge to (originals of the best quality), how faces are cut out of them, and their CRF."""
    best = profile.data.qualities[0]
    videos = index[(index["split"] == "train") & (index["label"] == 0) & (index["quality"] == best)]
    return [Path(path) for path in videos["path"].iloc[:INSTRUMENT.gauge_videos]], profile.faces, CRF[best]


def finish(model: Packaged, folder: Path, faces: FaceSet) -> Packaged:
    """Measure a packaged model on held-out faces, and write both cards."""
    write_json(folder / packaged.CARD, model.card | {"measured": measured(opinions(model, faces))})
    model = packaged.load_packaged(folder)
    write_card(model, folder)
    return model


def refuse_others(folder: Path) -> None:
    """Raise FileExistsError where a folder holds anything but a packaged model: a new one would take its place."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is no folder: name a new one by --out")
    found = sorted(folder.iterdir())
    others = [path.name for path in found if path.name not in FILES or not path.is_file()]
    if others or (found and folder / packaged.CARD not in found):
        what = f"holds {others[0]!r}" if others else f"lacks {packaged.CARD}"
        raise FileExistsError(f"{folder} {what}: only a packaged model is replaced, name a new folder by --out")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yield a folder beside `folder` that takes its place when all is done; on any error it is removed, the old one stays.

    Raises what `refuse_others` raises.
    """
    refuse_others(folder)
    folder = folder.resolve()  # a link stays, and leads to the new one
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        making, old = Path(temporary) / "new", Path(f"{temporary}.old")  # outside, so that it is not removed unasked
        making.mkdir()
        yield making
        refuse_others(folder)
        try:
            if folder.exists():
                folder.rename(old)
            making.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
        if old.exists():
            shutil.rmtree(old)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.run.package", description="Package a trained network.")
    parser.add_argument("run", nargs="?", help="name of a finished run of the profile (default: its oracle)")
    parser.add_argument("--profile", default=SHIPPED_PROFILE, choices=sorted(PROFILES))
    parser.add_argument("--name", help="of the packaged model (default: data set and network)")
    parser.add_argument("--out", type=Path, help=f"its folder (default: {PACKAGED.name}/NAME in data)")
    arguments = parser.parse_args(argv)
    try:
        profile = get_profile(arguments.profile)
        network = profile.student_model
        if not (arguments.name or arguments.out) and (arguments.run or profile.name != SHIPPED_PROFILE):
            what = arguments.run or f"the oracle of the profile {profile.name}"
            raise ValueError(f"{what} needs a name of its own: add --name NAME or --out FOLDER")
        name = arguments.name or f"{profile.data.name.split()[0].lower()}-{network.removeprefix('efficientnet-')}"
        folder, rendered = arguments.out or PACKAGED / name, profile.data.name.startswith("SynthFF")
        refuse_others(folder)
        faces, index = load_faces(profile), ffpp.load_index(profile)
        if arguments.run is None:
            supervise(profile, "oracle", faces)
        run = profile.workspace.runs / (arguments.run or checkpoints.run_name("oracle", network, 0))
        model = checkpoints.load_model(run)
        people = "rendered people" if rendered else "people"
        trained_on = f"{people} of {profile.data.name}, and fakes by {', '.join(profile.data.methods)}"
        gauge = packaged.fit_gauge(model, *gauged(profile, index))
        held_out = faces.select(split=[split for split in ffpp.HELD_OUT if split != "val"])
        with whole(folder) as making:
            about, codecs = about_run(run, rendered), codecs_of(index.loc[index["split"] == "val", "path"])
            made = packaged.package(model, faces, gauge, profile, making, name, trained_on, codecs, **about)
            finish(made, making, held_out)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"packaged {run.name} in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
