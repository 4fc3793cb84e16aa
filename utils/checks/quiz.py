"""Can you tell? A page with clips of test people: its visitor answers, and sees what networks said of the same clips.

    python -m utils.checks.quiz [--out build/site/quiz] [--seed 0]

The page is one file beside its clips, needs no server and loads nothing from elsewhere; answers never leave it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from utils.config import Profile, get_profile
from utils.faces import ffpp
from utils.paths import REFERENCE, ROOT, atomic, copy, sha256
from utils.results import store
from utils.results.metrics import choose_threshold, video_scores
from utils.results.style import LABELS, MODELS

PAGE = Path(__file__).with_suffix(".html")
EACH = 5  # clips of each class and quality
NETWORKS = (("xception", "post_trained"), ("efficientnet-lite0", "student_compression"))
SPLIT = "test"


def load_humans() -> pd.DataFrame:
    """Return how often the FF++ paper's participants were right: columns quality, accuracy (%), source."""
    return pd.read_csv(REFERENCE / "humans_ffpp.csv")


def draw_clips(clips: pd.DataFrame, seed: int = 0, each: int = EACH) -> pd.DataFrame:
    """Return clips to show, in order: as many real as fake ones of each quality, each of another person.

    `clips` holds columns method, video_id, quality, label. People who lack one of their clips, because no face was found in
    it, are left out. Raises ValueError where there are too few others.
    """
    rng = np.random.default_rng(seed)
    clips = clips.assign(target=clips["video_id"].str.split("_").str[0]).sort_values(["video_id", "quality"])
    qualities = sorted(clips["quality"].unique())
    kinds = clips.drop_duplicates(["target", "label", "quality"]).groupby("target").size()
    people = rng.permutation(sorted(kinds.index[kinds == 2 * len(qualities)]))
    if len(people) < 2 * each * len(qualities):
        raise ValueError(f"{len(people)} people are too few for {2 * each * len(qualities)} clips")
    parts = []
    for place, quality in enumerate(qualities):
        some = people[2 * each * place : 2 * each * (place + 1)]
        wanted = pd.DataFrame({"target": some, "label": [0, 1] * each, "quality": quality})
        one = wanted.merge(clips, on=["target", "label", "quality"]).drop_duplicates(["target", "label"])
        parts.append(one.sample(frac=1, random_state=rng))
    return pd.concat(parts, ignore_index=True)


def said(predictions: pd.DataFrame, drawn: pd.DataFrame) -> dict[str, list[int]]:
    """Return what each network of `NETWORKS` that was run says of the clips (1 fake), at its threshold from validation."""
    answers = {}
    for model, phase in NETWORKS:
        runs = predictions[(predictions["model"] == model) & (predictions["phase"] == phase)]
        if runs.empty:
            continue
        scored = video_scores(runs[runs["seed"] == runs["seed"].min()])
        thresholds = {
            quality: choose_threshold(val["label"].to_numpy(), val["score"].to_numpy())
            for quality, val in scored[scored["split"] == "val"].groupby("quality") if val["label"].nunique() == 2
        }  # fmt: skip
        key = ["method", "video_id", "quality"]
        scores = drawn[key].merge(scored[scored["split"] == SPLIT], on=key, how="left")["score"]
        limits = drawn["quality"].map(thresholds)
        if len(scores) == len(drawn) and scores.notna().all() and limits.notna().all():
            answers[f"{MODELS[model]}, {LABELS[phase]}"] = (scores >= limits).astype(int).tolist()
    return answers


def write_quiz(profile: Profile, out: Path, seed: int = 0) -> Path:
    """Write the page and its clips into a folder, and return the page. Raises FileNotFoundError where there are no scores."""
    predictions = store.of_comparison(store.load_predictions(profile))
    test = predictions[predictions["split"] == SPLIT]
    drawn = draw_clips(test.drop_duplicates(["method", "video_id", "quality"]), seed)
    answers, humans = said(predictions, drawn), load_humans().set_index("quality")["accuracy"]
    index = ffpp.plan_index(profile)
    paths = dict(zip(index[["method", "quality", "video_id"]].itertuples(index=False, name=None), index["path"], strict=True))
    clips = []
    for place, clip in enumerate(drawn.itertuples()):
        source = paths[clip.method, clip.quality, clip.video_id]
        name = f"{sha256(source)[:12]}.mp4"  # tells nothing, and is no other clip's in a page that stands here already
        copy(source, out / "clips" / name)
        about = {"file": f"clips/{name}", "quality": clip.quality, "label": int(clip.label)}
        clips.append(about | {"said": [verdicts[place] for verdicts in answers.values()]})
    qualities = list(dict.fromkeys(drawn["quality"]))
    quiz = {"clips": clips, "qualities": qualities, "networks": list(answers),
            "humans": {quality: float(humans[quality]) for quality in qualities if quality in humans}}  # fmt: skip
    page = PAGE.read_text(encoding="utf-8").replace("/*QUIZ*/null", json.dumps(quiz).replace("</", "<\\/"))
    with atomic(out / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    shown = {Path(clip["file"]).name for clip in clips}
    for path in (out / "clips").glob("*.mp4"):
        if path.name not in shown:
            path.unlink()
    return out / "index.html"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.checks.quiz", description="Can you tell? As a page.")
    parser.add_argument("--profile", default="synthff")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site" / "quiz")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    try:
        print(write_quiz(get_profile(arguments.profile), arguments.out, arguments.seed))
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
