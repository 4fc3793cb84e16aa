"""The model card of a packaged network (Mitchell et al. 2019): what it was measured to do, for whom, and what it is not for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from utils.learn.dataset import FaceSet
from utils.learn.packaged import CARD, Packaged, sides
from utils.learn.verdicts import ABSTAINS, FAKE, REAL, codec_label, opinion
from utils.paths import atomic
from utils.results.metrics import calibration_error, evaluate
from utils.results.prose import Estimate, listed

CLIP = ["split", "quality", "method", "video_id"]
NAME = "README.md"


def opinions(model: Packaged, faces: FaceSet) -> pd.DataFrame:
    """Return what a packaged model says of each clip: `CLIP`, label, score, probability, crf, verdict, reasons."""
    rows = []
    for key, part in faces.index.groupby(CLIP):
        items = part.index.to_numpy()
        crops = faces.images(items).permute(0, 2, 3, 1).numpy()
        found = opinion(crops, sides(FaceSet(part, faces.pixels)), model)
        about = dict(zip(CLIP, key, strict=True)) | part.iloc[0][["label", "target", "pair"]].to_dict()
        about["verdict"] = found.verdict
        numbers = {name: getattr(found, name) for name in ("score", "probability", "low", "high", "crf", "distance")}
        rows.append(about | numbers | {"reasons": "; ".join(found.reasons)})
    return pd.DataFrame(rows)


def measured(said: pd.DataFrame, resamples: int = 2000) -> list[dict]:
    """Return one row a split and quality: AUC of the scores with its interval, and what was answered and how rightly.

    `answered` are clips with a verdict, `accused` real ones called fake, `passed` fakes called real.
    """
    about = {"run": "packaged", "model": "", "phase": "", "seed": 0, "frame": 0}
    people = dict(zip(said["video_id"], said["pair"], strict=True))  # a person's own videos are one unit
    usual = {"levels": ("video",), "wanted": ("auc",), "threshold": 0.5}
    table = evaluate(said.assign(**about), resamples, pair_of=people, **usual).table
    rows = []
    for row in table.sort_values(["split", "quality"]).itertuples():
        part = said[(said["split"] == row.split) & (said["quality"] == row.quality)]
        fake = part["label"] == 1
        rows.append({
            "split": row.split, "quality": row.quality, "people": part["target"].nunique(), "real": int((~fake).sum()),
            "fake": int(fake.sum()), "auc": [round(value, 3) for value in (row.auc, row.auc_lo, row.auc_hi)],
            "answered": int((part["verdict"] != ABSTAINS).sum()),
            "accused": int(((part["verdict"] == FAKE) & ~fake).sum()), "passed": int(((part["verdict"] == REAL) & fake).sum()),
            "calibration_error": round(calibration_error(fake, part["probability"]), 3),
        })  # fmt: skip
    return rows


def write_card(model: Packaged, folder: Path) -> Path:
    """Write the card that people read, from the one that machines read."""
    card, valid = model.card, model.card["validated"]
    best, worst, least, most = (f"{value:.0f}" for value in (*valid["crf"], *valid["side"]))
    codecs = listed([codec_label(codec) for codec in model.codecs])
    rows, run = "\n".join(map(_row, card["measured"])), card["run"]
    commit = f"commit `{run['git_commit'][:12]}`" + " with changes that were not committed" * run["git_commit"].endswith("+")
    start = "nothing" if run.get("weights") == "none" else "ImageNet weights"
    no_width = any(row["auc"][1] == row["auc"][2] for row in card["measured"])
    sure = " An interval without width means that no clip was on the wrong side of another, and not certainty." * no_width
    hashes = ", ".join(f"`{name}` `{value}`" for name, value in sorted(card["sha256"].items()))
    text = f"""# Model card: {card["name"]}

After Mitchell et al., *Model Cards for Model Reporting* (2019). Every number is computed; machines read [`{CARD}`]({CARD}).

**Model.** {card["label"]}, images of {card["px"]} px, two classes. Run `{run["hash"]}` of {commit},
{run["steps"]} steps in {run["precision"]} from {start}. Licence: {card["licence"]}. SHA-256 of its files:
{hashes}.

**Trained on** {card["trained_on"]}.

**Meant for** trying the instrument, for teaching, and for clips like those it was validated on. **Not meant for** deciding
about anybody: {card["not_for"]} The instrument abstains where a face is unlike those that it was validated on, but a
face that looks like them may still be judged wrongly, and who knows the network can mislead it.

**Validated on** {valid["clips"]} clips of {valid["people"]} people of {valid["on"]}, about
{valid["faces_of_a_clip"]:.0f} faces a clip: {codecs}, compressed like CRF {best} to {worst}, faces of {least} to {most} px
(the square around them). Beyond that it abstains. Probabilities are calibrated on the same clips and hold where half of all
clips are fake; `--prior` gives them another start.

**Measured** on people of whom it has seen nothing:

| clips | people | real + fake | AUC | answered | reals called fake | fakes called real | calibration error |
|---|---|---|---|---|---|---|---|
{rows}

In brackets 95 % intervals by bootstrap over people; two whom fakes make a pair are drawn together.{sure}
*Answered*: clips with a
verdict, of the others it abstains. The last column is over all clips, answered or not.

**Who it may fail.** {card["fails"]}
"""
    with atomic(folder / NAME) as path:
        path.write_text(text, encoding="utf-8")
    return folder / NAME


def _row(row: dict) -> str:
    clips = row["real"] + row["fake"]
    answers = f"{row['answered']} of {clips} | {row['accused']} | {row['passed']} | {row['calibration_error']:.3f} |"
    about = f"{row['split']}, {row['quality']} | {row['people']} | {row['real']} + {row['fake']} | {Estimate(*row['auc'])}"
    return f"| {about} | {answers}"
