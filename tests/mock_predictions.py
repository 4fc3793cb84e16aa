"""Made-up predictions with the columns and the structure of real ones: pairs of identities, two fakes a pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from utils.config import ARMS, PHASE_TEACHER, PHASES
from utils.learn.scores import COLUMNS
from utils.results import store

STRENGTH = {"c23": 2.0, "c40": 1.0}  # distance of the classes' logits, in standard deviations
TEACHERS = (*ARMS, "student_compression_it1")


def make_run(model="xception", phase="trained", seed=0, n_pairs=8, n_frames=4, strength=1.0, rng_seed=0, hard_pairs=0):
    """Return one run's predictions: val pairs come first, then as many test pairs, then those of test_hard, if any."""
    rng = np.random.default_rng([rng_seed, sum(map(ord, model + phase)), seed])
    rows = []
    splits = ["val"] * n_pairs + ["test"] * n_pairs + ["test_hard"] * hard_pairs
    for index, split in enumerate(splits):
        a, b = f"{2 * index:03d}", f"{2 * index + 1:03d}"
        for quality, distance in STRENGTH.items():
            distance *= 0.5 if split == "test_hard" else 1
            for video, label in ((a, 0), (b, 0), (f"{a}_{b}", 1), (f"{b}_{a}", 1)):
                logit = (label - 0.5) * distance * strength + rng.normal() * 0.7
                about = (f"{phase}-{model}-s{seed}", model, phase, seed, "NeuralTextures" if label else "original")
                for frame in range(n_frames):
                    score = 1 / (1 + np.exp(-(logit + rng.normal() * 0.7)))
                    rows.append((*about, split, quality, video, 5 * frame, label, round(score, 6)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def make_predictions(models=("xception", "resnet18", "efficientnet-lite0"), teachers=True, **options):
    """Return the predictions of all models in the three phases, and of the Noisy Student comparison."""
    runs = [make_run(model, phase, **options) for model in models for phase in (*PHASES, PHASE_TEACHER)]
    if teachers:
        runs += [make_run("efficientnet-lite0", phase, **options) for phase in TEACHERS]
    return pd.concat(runs, ignore_index=True)


def write_predictions(folder: Path, predictions: pd.DataFrame) -> None:
    """Write predictions as the committed table of a folder, and a row for each run; `experiment` is empty if not given."""
    predictions = predictions.assign(experiment=predictions.get("experiment", ""))
    predictions = predictions[["experiment", *COLUMNS]]
    runs = predictions.drop_duplicates(["experiment", "run"]).reindex(columns=store.RUN_COLUMNS)
    runs = runs.assign(settings="s", hash="h", labelled_people=4)
    store.write_results(folder, {"predictions": predictions, "runs": runs})
