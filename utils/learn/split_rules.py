"""What a split keeps together: the same people, network and steps, validated on frames, videos or pairs that were set aside.

The original project set frames aside at random, so that the neighbours of a validation frame were trained on. Here the same is
done on purpose, beside two rules that keep more together, and each network is asked about people whom it has never seen.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from utils.config import SPLIT_RULES, Profile, SplitRulesConfig, get_profile
from utils.faces.ffpp import shuffled_pairs
from utils.faces.splits import deal
from utils.learn import checkpoints
from utils.learn.checkpoints import run_of
from utils.learn.dataset import FaceSet
from utils.learn.models import Detector, create_model
from utils.learn.predict import kept_scores, predict_faces, prediction_table
from utils.learn.scores import read_scores, write_scores
from utils.learn.training import fit

VARIANT = "split_rules"
PARTS = ("train", "val")


def rules_profile(steps: int | None = None) -> Profile:
    """Return the profile of the comparison: `shipped`, the weights that validate best kept, as in the original project."""
    base, numbers = get_profile("shipped"), SplitRulesConfig()
    models = {name: replace(model, steps=steps or numbers.steps) for name, model in base.models.items()}
    train = replace(base.train, keep="best", eval_every=numbers.eval_every, val_every=1)
    variant = VARIANT + (f"/{steps}_steps" if steps and steps != numbers.steps else "")
    return replace(base, variant=variant, models=models, train=train)


def dealt(faces: FaceSet, rule: str, seed: int) -> FaceSet:
    """Return the faces of a seed's people, `split` being what the rule deals them to: train or val; the rest is left out.

    Of one half of the people there are the real videos, of the other half the fakes: who draws a hundred of each out of a
    thousand, as the original did, seldom draws both of one person. People and videos are the same under all rules. Raises
    ValueError for an unknown rule or too few people.
    """
    if rule not in SPLIT_RULES:
        raise ValueError(f"unknown rule {rule!r}: choose one of {', '.join(SPLIT_RULES)}")
    numbers = SplitRulesConfig()
    pairs = shuffled_pairs(faces.index, "train", seed)
    if 2 * len(pairs) < numbers.people:
        raise ValueError(f"{numbers.people} people are asked of the split 'train', it has {2 * len(pairs)}")
    drawn = faces.select(split="train", quality=numbers.quality, pairs=pairs[: numbers.people // 2])
    halves = []
    for label, half in enumerate((pairs[numbers.people // 4 : numbers.people // 2], pairs[: numbers.people // 4])):
        index = drawn.index[drawn.index["pair"].isin(half) & (drawn.index["label"] == label)]
        stream = (seed, 1 + label)  # not that of the pairs again: the first of them would all go to training
        part = deal(index, SPLIT_RULES[rule], (numbers.train, numbers.val), stream)
        halves.append(index[part >= 0].assign(split=[PARTS[one] for one in part[part >= 0]]))
    return FaceSet(pd.concat(halves).sort_index(), drawn.pixels)


def train_under(profile: Profile, rule: str, faces: FaceSet, seed: int) -> Detector:
    """Train under a rule and return the network; a finished one is loaded."""
    mine, config = dealt(faces, rule, seed), profile.model(profile.student_model)
    model = create_model(profile.student_model, config, seed)
    folder = profile.workspace.runs / run_of(profile, rule, seed)
    return fit(model, mine.select(split="train"), mine.select(split="val"), config, profile.train, folder, seed=seed,
               about={"phase": rule})  # fmt: skip


def score_under(profile: Profile, rule: str, faces: FaceSet, seed: int, unseen: str, file: str) -> pd.DataFrame:
    """Return the scores of a finished network on its own validation faces and on the split `unseen`.

    The table is kept in its run folder, and read from there where it is newer than the network.
    """
    name, quality = run_of(profile, rule, seed), SplitRulesConfig().quality
    folder = profile.workspace.runs / name
    if (kept := kept_scores(folder, file)) is not None:
        return kept
    model, config = checkpoints.load_model(folder), checkpoints.read_json(folder / "config.json")
    parts = [dealt(faces, rule, seed).select(split="val"), faces.select(split=unseen, quality=quality)]
    tables = []
    for part, split in zip(parts, ("val", "test"), strict=True):
        table = prediction_table(name, config, part, predict_faces(model, part, profile.train.precision, ""))
        tables.append(table.assign(split=split))
    write_scores(folder / file, pd.concat(tables, ignore_index=True))
    return read_scores(folder / file)
