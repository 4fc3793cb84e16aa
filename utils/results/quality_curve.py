"""AUC, and what one fixed threshold finds, from c23's bit rate down to where nothing is left: tables from committed scores."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from utils.config import CRF, ENCODINGS
from utils.learn.scores import TEXT
from utils.paths import QUALITY_CURVE
from utils.results.metrics import ALARMS, VIDEO, alarm_thresholds, by_method, evaluate, rates
from utils.results.store import FROM_GIT, read_table, require_sealed

SCORES, VIDEOS = "scores.csv.gz", "videos.csv"
PHASES = ("trained", "teacher_c23", "teacher_both", "student_compression", "oracle")  # whose networks are shown
COLUMNS = (*VIDEO, "pair", "faces", "score")  # of the scores, one row a clip
SPLIT, LEVEL = "test", "video"


def load_scores(folder: Path = QUALITY_CURVE) -> pd.DataFrame | None:
    """Read the committed scores, one row a clip; None where nothing was scored.

    Raises ValueError, naming the file, where it is damaged.
    """
    path = folder / SCORES
    if not path.is_file():
        return None
    require_sealed(path)
    scores = read_table(path, (), (), FROM_GIT, dtype=TEXT | {"pair": str, "score": float})
    problems = {
        "other columns": tuple(scores.columns) != COLUMNS,
        "an unknown quality": "quality" in scores and not scores["quality"].isin(ENCODINGS).all(),
        "scores outside [0, 1]": "score" in scores and not scores["score"].between(0, 1).all(),
        "a clip that is scored twice": bool(scores.duplicated([name for name in VIDEO if name in scores]).any()),
    }
    for problem, is_there in problems.items():
        if is_there:
            raise ValueError(f"{path}: {problem}: {FROM_GIT}")
    return scores


def tables(resamples: int, folder: Path = QUALITY_CURVE) -> dict[str, pd.DataFrame]:
    """Return the two tables by name; none where nothing was scored."""
    scores = load_scores(folder)
    if scores is None:
        return {}
    require_sealed(folder / VIDEOS)
    videos = read_table(folder / VIDEOS, ("quality", "kbits", "found"), ("quality",), FROM_GIT)
    if lacking := set(scores["quality"]) - set(videos["quality"]):
        raise ValueError(f"{folder / VIDEOS}: no bit rate of {', '.join(sorted(lacking))}: {FROM_GIT}")
    return {"quality_curve": auc_table(scores, videos, resamples), "quality_alarms": alarms_table(scores, videos, resamples)}


def auc_table(scores: pd.DataFrame, videos: pd.DataFrame, resamples: int) -> pd.DataFrame:
    """Return one row a network, phase and quality, from the highest bit rate to the lowest.

    Columns phase, model, quality, codec, `kbits` (kbit/s, mean of the test clips), `found` (share of sampled frames with a
    face), seeds, `value`, `lo`, `hi` (AUC over clips with a face), `chance` (whether its interval holds one half).
    """
    test = scores[scores["split"] == SPLIT].assign(frame=0)
    found = by_method(evaluate(test, resamples, levels=(LEVEL,), wanted=("auc",), threshold=0.5))
    table = found.merge(videos[["quality", "kbits", "found"]], on="quality", validate="many_to_one")
    table["codec"] = table["quality"].map(kind_of)
    table["chance"] = table["lo"] <= 0.5
    order = {name: place for place, name in enumerate(PHASES)}
    table = table.sort_values(["phase", "model", "kbits"], key=lambda column: column.map(order) if column.name == "phase" else
                              -column if column.name == "kbits" else column, ignore_index=True)  # fmt: skip
    return table[["phase", "model", "quality", "codec", "kbits", "found", "seeds", "value", "lo", "hi", "chance"]]


def alarms_table(scores: pd.DataFrame, videos: pd.DataFrame, resamples: int) -> pd.DataFrame:
    """Return one row a network, share of false alarms and quality: what one threshold, held for every quality, finds.

    It is the score that this share of the real *validation* clips reach at c23 and c40. `tpr`, `fpr` over test clips.
    """
    rows, kbits = [], videos.set_index("quality")["kbits"]
    reals = scores[(scores["split"] == "val") & (scores["label"] == 0) & scores["quality"].isin(CRF)]
    for (phase, model), part in scores[scores["split"] == SPLIT].groupby(["phase", "model"]):
        mine = reals[(reals["phase"] == phase) & (reals["model"] == model)]
        for alarms in ALARMS:
            threshold = alarm_thresholds(mine, alarms)
            for quality, clips in part.groupby("quality"):
                flagged = clips.assign(flagged=clips["score"] > clips["seed"].map(threshold))
                about = {"phase": phase, "model": model, "alarms": alarms, "quality": quality, "kbits": kbits[quality]}
                rows.append(about | rates(flagged, resamples))
    return pd.DataFrame(rows).sort_values(["phase", "model", "alarms", "kbits"], ascending=[True, True, False, False],
                                          ignore_index=True)  # fmt: skip


def kind_of(quality: str) -> str:
    """Return how a quality was made, in few words: the codec, and whether the size was changed or it was compressed twice."""
    how = ENCODINGS[quality]
    codec = {"libx264": "H.264", "libx265": "HEVC", "libvpx-vp9": "VP9"}[how.codec]
    changed = {0.5: ", half size", 0.25: ", quarter size"}.get(how.scale, "") + (", twice" if how.times == 2 else "")
    return codec + changed
