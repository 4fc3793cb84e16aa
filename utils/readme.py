"""The numbers of README.md: every block between `<!-- name -->` and `<!-- /name -->` is written from the report's tables."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pandas as pd

from utils.config import Profile
from utils.ffpp import HARD
from utils.metrics import Evaluation, by_method
from utils.paths import ROOT, atomic
from utils.style import COMPARISON, MODELS, PHASES

BASELINE = "xception"  # what everything is measured against
WIDTH = 118  # columns
BLOCK = r"(<!-- {name} -->\n).*?(<!-- /{name} -->)"


def _interval(row) -> str:
    return f"{row.value:.3f} [{row.lo:.3f}, {row.hi:.3f}]"


def claim(profile: Profile, evaluation: Evaluation, differences: pd.DataFrame, few: pd.DataFrame | None = None) -> str:
    """Return the first sentences of the README: the compression student against the baseline and against its teacher.

    `few` is the study's table of contrasts with fewer labels, if they were run.
    """
    table = by_method(evaluation).query("quality == 'c40'").set_index(["phase", "model"])
    student = ("student_compression", profile.student_model)
    baselines = [key for key in table.index if key[1] == BASELINE and key[0] in ("trained", "post_trained")]
    if student not in table.index or not baselines:
        return "The runs that the claim needs are not in `data/predictions` yet: `make reproduce` makes them.\n"
    valid = by_method(evaluation, split="val").query("quality == 'c40'").set_index(["phase", "model"])["value"]
    phase, _ = best = max(baselines, key=valid.get)
    against = differences.query("question == 'student' and phase == 'student_compression' and quality == 'c40'")
    text = (
        f"On faces of people it has never seen, in {profile.data.name} video at c40, a Noisy Student whose teacher looks "
        f"at the c23 view reaches a video-level AUC of **{_interval(table.loc[student])}** with the labels of "
        f"{profile.data.labelled_fraction:.0%} of the training people; {MODELS[BASELINE]} with all labels, "
        f"{PHASES[phase]}, reaches {_interval(table.loc[best])}"
    )
    sentences = [text]
    for row in against.itertuples():
        versus = COMPARISON[row.versus]
        sentences.append(f"That is {row.verdict} its {versus}: {row.value:+.3f} [{row.lo:+.3f}, {row.hi:+.3f}]")
    if few is not None and few["people"].nunique() > 1:
        sentences.append(_fewest(few))
    seeds = int(table.loc[student]["seeds"])
    several = f" and over the {seeds} seeds of the comparison" if seeds > 1 else ""
    sentences.append(f"In brackets: 95 % intervals by bootstrap over pairs of identities{several}")
    return "".join(textwrap.fill(f"{sentence}.", WIDTH, break_on_hyphens=False) + "\n" for sentence in sentences)


def _fewest(few: pd.DataFrame) -> str:
    """Return the sentence on the smallest number of labelled people."""
    part = few[(few["people"] == few["people"].min()) & (few["quality"] == "c40") & (few["phase"] == "student_compression")]
    first, gains = part.iloc[0], []
    for row in part.itertuples():
        gains.append(f"{row.value:+.3f} [{row.lo:+.3f}, {row.hi:+.3f}] over the {COMPARISON[row.versus]}")
    return f"With the labels of {first['people']} people (seeds: {first['seeds']}), the differences are {'; '.join(gains)}"


def results(evaluation: Evaluation) -> str:
    """Return AUC at video level on test as a Markdown table, one row a phase and model; on test_hard too where it is."""
    tables = {split: by_method(evaluation, split=split).assign(split=split) for split in ("test", HARD)}
    splits = [split for split, part in tables.items() if split == "test" or len(part)]
    table = pd.concat([tables[split] for split in splits], ignore_index=True)
    columns = [(split, quality) for split in splits for quality in ("c23", "c40")]
    heads = ["phase", "network", *(quality if split == "test" else f"{quality}, `{split}`" for split, quality in columns)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    names = {**PHASES, **COMPARISON}
    for phase in names:
        part = table[table.phase == phase]
        for model in [name for name in MODELS if name in set(part.model)]:
            cells = part[part.model == model].set_index(["split", "quality"])
            values = [_interval(cells.loc[key]) if key in cells.index else "" for key in columns]
            lines.append(f"| {names[phase]} | {MODELS[model]} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def update(
    profile: Profile, evaluation: Evaluation, tables: dict[str, pd.DataFrame], path: Path = ROOT / "README.md"
) -> None:
    """Rewrite the README's blocks from the report's tables; raise ValueError for a README that lacks one."""
    text = path.read_text(encoding="utf-8")
    first = claim(profile, evaluation, tables["differences"], tables.get("few_labels"))
    blocks = {"claim": first, "results": results(evaluation)}
    for name, block in blocks.items():
        pattern = re.compile(BLOCK.format(name=name), re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{path} has no block <!-- {name} --> ... <!-- /{name} -->: put it back")
        text = pattern.sub(lambda match, block=block: match[1] + block + match[2], text)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
