"""What validation promises under three ways to set it aside, and what unseen people give: tables from the committed scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from utils.config import SPLIT_RULES
from utils.learn.scores import COLUMNS, read_scores
from utils.paths import SPLIT_RULES_SCORES
from utils.results.metrics import Evaluation, draws, estimate, evaluate
from utils.results.store import FROM_GIT, require_sealed

METRICS = {"accuracy": "accuracy_half", "auc": "auc"}  # over faces; the accuracy at one half, as in the original project
PROMISED, FOUND = "val", "test"  # splits of the scores: faces set aside by the rule, and people who took no part


def load_scores(path: Path = SPLIT_RULES_SCORES) -> pd.DataFrame | None:
    """Read the committed scores, one row a face; None where the comparison was not scored.

    Raises ValueError, naming the file, where it is damaged or has other rules.
    """
    if not path.is_file():
        return None
    require_sealed(path)
    scores = read_scores(path, (*COLUMNS, "protocol"))
    if not set(scores["phase"]) <= set(SPLIT_RULES):
        raise ValueError(f"{path}: unknown rules: {FROM_GIT}")
    return scores


def tables(resamples: int, path: Path = SPLIT_RULES_SCORES) -> dict[str, pd.DataFrame]:
    """Return the two tables by name; none where nothing was scored."""
    scores = load_scores(path)
    if scores is None:
        return {}
    found = measured(scores, resamples)
    return {"split_rules": rules_table(found), "split_rules_gaps": gaps_table(found)}


def measured(scores: pd.DataFrame, resamples: int) -> Evaluation:
    """Measure every run: unseen people, who are the same for all, with the same draws, and what each set aside with its own."""
    usual = {"levels": ("frame",), "wanted": tuple(METRICS.values()), "threshold": 0.5}
    parts = [evaluate(scores[scores["split"] == FOUND], resamples, **usual)]
    aside = scores[scores["split"] == PROMISED].groupby("run")
    parts += [evaluate(part, resamples, seed=stream, **usual) for stream, (_, part) in enumerate(aside, start=1)]
    whole = [{key: value for part in parts for key, value in getattr(part, name).items()} for name in ("values", "pairs")]
    return Evaluation(pd.concat([part.table for part in parts], ignore_index=True), *whole)


def _drawn(found: Evaluation, rule: str, split: str, metric: str) -> np.ndarray:
    """Return the mean over seeds and its bootstrap values (1 + R,): seeds and, within each, its own pairs are drawn."""
    rows = found.table[(found.table["phase"] == rule) & (found.table["split"] == split)].sort_values("seed")
    return draws(found, list(rows[["run", "split", "quality", "level"]].itertuples(index=False, name=None)), METRICS[metric])


def rules_table(found: Evaluation) -> pd.DataFrame:
    """Return one row a rule, metric and measure: validation, unseen people, and the loss from one to the other."""
    rows, seeds = [], found.table["seed"].nunique()
    for rule in SPLIT_RULES:
        for metric in METRICS:
            promised, unseen = (_drawn(found, rule, split, metric) for split in (PROMISED, FOUND))
            for measure, values in (("validation", promised), ("unseen", unseen), ("loss", promised - unseen)):
                rows.append({"rule": rule, "metric": metric, "measure": measure, "seeds": seeds}
                            | estimate(values[0], values[1:]))  # fmt: skip
    return pd.DataFrame(rows)


def gaps_table(found: Evaluation) -> pd.DataFrame:
    """Return one row a rule but pairs, metric and measure: that rule minus pairs, with the same seeds and unseen people.

    Validation faces under two rules are other people or other frames: they are drawn independently.
    """
    rows = []
    for rule in list(SPLIT_RULES)[:-1]:
        for metric in METRICS:
            these, those = ({part: _drawn(found, one, part, metric) for part in (PROMISED, FOUND)} for one in (rule, "pairs"))
            promised, unseen = (these[part] - those[part] for part in (PROMISED, FOUND))
            for measure, values in (("validation", promised), ("unseen", unseen), ("loss", promised - unseen)):
                rows.append({"rule": rule, "metric": metric, "measure": measure} | estimate(values[0], values[1:]))
    return pd.DataFrame(rows)
