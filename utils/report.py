"""Tables, numbers and verdicts for the report, and the report itself: `python -m utils.report --profile synthff`.

report/report.typ holds the prose and no number; it reads report/tables/*.csv and facts.json, which come from here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd
import typst

from utils import facts, study
from utils.config import Profile, get_profile
from utils.experiments import CASE_TEACHERS
from utils.ffpp import HARD, SPLITS
from utils.metrics import (
    Evaluation,
    by_method,
    difference,
    evaluate,
    hard_against_test,
    load_predictions,
)
from utils.paths import REPORT, atomic
from utils.plots import draw_results, load_original
from utils.study import Study, load_study
from utils.study_plots import draw_study
from utils.style import COMPARISON, MODELS, PHASES, known_methods, method_label

SHOWN = ("auc", "balanced_accuracy", "accuracy", "accuracy_real", "accuracy_fake", "eer", "log_loss")
CONTRASTS = {  # of the Noisy Student experiment: who against whom
    "student_classic": "teacher_c40",
    "student_compression": "teacher_both",
    "teacher_both": "teacher_c40",
    "oracle": "student_compression",
}


def results_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row a phase, model, quality and level on test: metrics with intervals, and the class balance."""
    key = ["phase", "model", "quality"]
    table, parts = evaluation.table, []
    for level in ("video", "frame"):
        part = table[(table["split"] == "test") & (table["level"] == level)]
        part = part.groupby(key, sort=False, as_index=False)[["n_pairs", "n_real", "n_fake"]].first()
        for metric in SHOWN:
            values = by_method(evaluation, metric, level=level)
            names = {"value": metric, "lo": f"{metric}_lo", "hi": f"{metric}_hi"}
            part = part.merge(values.rename(columns=names).drop(columns="seeds" if metric != "auc" else []), on=key)
        parts.append(known_methods(part).assign(level=level))
    return pd.concat(parts, ignore_index=True)


def robustness_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return video AUC on `test` and on `test_hard`, one row a method and quality; no row where no run has `test_hard`.

    Columns as in `hard_against_test`, and the verdict on `change`: "lower than" is a loss on the harder videos.
    """
    table = known_methods(hard_against_test(evaluation))
    return table.assign(verdict=[verdict(row.change_lo, row.change_hi) for row in table.itertuples()])


def robustness_words(table: pd.DataFrame) -> str:
    """Return what `robustness_table` says, one sentence a quality, in Markdown."""
    if table.empty:
        return f"Nothing to compare: these data have no split `{HARD}`."
    text = f"`{HARD}` has {table['n_pairs'].max()} pairs of other people."
    for quality, part in table.groupby("quality"):
        best = part.loc[part["hard"].idxmax()]
        text += (
            f" At {quality}, AUC changes by {part['change'].mean():+.3f} against `test` on average over {len(part)} methods, "
            f"shown to be lower for {(part['change_hi'] < 0).sum()} of them, higher for {(part['change_lo'] > 0).sum()}; "
            f"the highest is {best['hard']:.3f} [{best['hard_lo']:.3f}, {best['hard_hi']:.3f}] ({best['method']})."
        )
    return text


def cases_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return the original's 18 cases beside ours, and Lite0's: accuracy over faces in % at one half, and AUC in %.

    Ours are means over seeds: `<quality>_val`, `_test`, `_test_real`, `_test_fake` and, at c40, AUC of faces (`_val_auc`,
    `_test_auc`). Two data sets: original and ours are not to be subtracted. Empty where a case was not run.
    """
    original = load_original()
    own = pd.DataFrame({"phase": list(PHASES), "model": "efficientnet-lite0"})  # no case of the original
    table = pd.concat([original, own], ignore_index=True)
    ours = evaluation.table.query("level == 'frame' and split in ('val', 'test')").copy()
    columns = {"": "accuracy_half", "_real": "accuracy_half_real", "_fake": "accuracy_half_fake", "_auc": "auc"}
    for ending, metric in columns.items():
        ours["column"] = ours["quality"] + "_" + ours["split"] + ending
        ours["percent"] = 100 * ours[metric]
        wide = ours.pivot_table(index=["phase", "model"], columns="column", values="percent").reset_index()
        table = table.merge(wide, on=["phase", "model"], how="left")
    table.insert(0, "method", [method_label(row) for row in table.itertuples()])
    return table


def keys(
    evaluation: Evaluation, phase: str, model: str, quality: str, level: str = "video", split: str = "test"
) -> list[tuple]:
    """Return the keys of a method's results on a split, one a seed."""
    runs = evaluation.table.query("phase == @phase and model == @model and split == @split")["run"].unique()
    found = [(run, split, quality, level) for run in runs]
    return [key for key in found if key in evaluation.values]


def verdict(low: float, high: float, chance: float = 0.0) -> str:
    """Put an interval into words: it lies above `chance`, below it, or on both sides of it."""
    return "higher than" if low > chance else "lower than" if high < chance else "not distinguishable from"


def differences_table(evaluation: Evaluation, split: str = "test") -> pd.DataFrame:
    """Return every paired difference in AUC on a split that the report speaks of, with interval and verdict.

    `question`: "compression" (c23 minus c40), "averaging" (video minus frame), "phase" (against the phase before),
    "taught" (phase 3 against its own teacher) and "student" (`CONTRASTS`).
    """
    found = set(zip(evaluation.table["phase"], evaluation.table["model"], strict=True))
    methods = [(phase, model) for phase in [*PHASES, *COMPARISON] for model in MODELS if (phase, model) in found]
    qualities = sorted(evaluation.table["quality"].unique())
    before = dict(zip(list(PHASES)[1:], list(PHASES), strict=False))
    asked = []
    for phase, model in methods:
        asked.append(("compression", phase, phase, model, "c40", ("c23", "video"), ("c40", "video")))
        for quality in qualities:
            asked.append(("averaging", phase, phase, model, quality, (quality, "video"), (quality, "frame")))
            for question, contrasts in (("phase", before), ("taught", CASE_TEACHERS), ("student", CONTRASTS)):
                if phase in contrasts:
                    same = (quality, "video")
                    asked.append((question, phase, contrasts[phase], model, quality, same, same))
    rows = []
    for question, phase, versus, model, quality, this, that in asked:
        these, those = keys(evaluation, phase, model, *this, split), keys(evaluation, versus, model, *that, split)
        if these and those:
            found = difference(evaluation, these, those)
            rows.append((question, phase, versus, model, quality, *found.values(), verdict(found["lo"], found["hi"])))
    columns = ["question", "phase", "versus", "model", "quality", "value", "lo", "hi", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(1, "method", [method_label(row) for row in table.itertuples()])
    return table


def data_tables(profile: Profile) -> dict[str, pd.DataFrame]:
    """Return what metadata.csv tells per split (`data`) and per quality (`compression`); empty where there is none."""
    path = Path(profile.data.root) / "metadata.csv"
    if not path.is_file():
        return {"data": pd.DataFrame(columns=["split"]), "compression": pd.DataFrame(columns=["quality"])}
    clips = pd.read_csv(path, dtype={"video_id": str, "target": str, "source": str})
    clips["seconds"] = clips["frames"] / clips["fps"]
    clips["kbits"] = clips["bytes"] * 8 / clips["seconds"] / 1000
    one = clips[clips["quality"] == clips["quality"].min()]
    splits = one.groupby("split").agg(
        identities=("target", "nunique"),
        real=("label", lambda label: (label == 0).sum()),
        fake=("label", "sum"),
        frames=("frames", "sum"),
    )
    order = [name for name in (*SPLITS, HARD) if name in splits.index]
    usual = clips[clips["split"] != HARD]  # its frames have other sizes
    means = usual.groupby("quality", as_index=False)[["kbits", "psnr", "ssim"]].mean()
    return {"data": splits.loc[order].reset_index(), "compression": means}


def settings_table(profile: Profile) -> pd.DataFrame:
    """Return the settings of each network of the profile."""
    rows = [(MODELS[name], c.px, c.weights, c.steps, c.batch_size, f"{c.lr:g}") for name, c in profile.models.items()]
    return pd.DataFrame(rows, columns=["network", "px", "weights", "steps", "batch", "lr"])


def write_tables(
    profile: Profile, evaluation: Evaluation, folder: Path, found: Study | None = None
) -> dict[str, pd.DataFrame]:
    """Write every table of the report, and of the study if there is one, as CSV and facts.json; return the tables."""
    tables = {
        "results": results_table(evaluation),
        "cases": cases_table(evaluation),
        "differences": differences_table(evaluation),
        "robustness": robustness_table(evaluation),
        "differences_hard": differences_table(evaluation, HARD),
        "settings": settings_table(profile),
        **data_tables(profile),
        **study.tables(found),
    }
    for name, table in tables.items():
        digits = "%.1f" if name == "cases" else "%.3f"
        with atomic(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format=digits, lineterminator="\n")
    with atomic(folder / "facts.json") as temporary:
        text = json.dumps(facts.collect(profile, evaluation, tables, found), indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return tables


def compile_report(profile: Profile) -> Path:
    """Set report.typ with the profile's tables and figures; return the PDF, byte for byte the same for equal input.

    Raises FileNotFoundError where the tables are missing and ValueError where Typst refuses the source.
    """
    workspace = profile.workspace
    if not (workspace.tables / "facts.json").is_file():
        raise FileNotFoundError(f"no tables in {workspace.tables}: run notebook 07 (`make figures`)")
    inputs = {
        kind: ",".join(sorted(path.name for path in folder.glob("[!.]*.*")))
        for kind, folder in (("figures", workspace.figures), ("tables", workspace.tables))
    }
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        for source in [*REPORT.glob("*.typ"), *REPORT.glob("*.bib")]:
            (stage / "report").mkdir(exist_ok=True)
            shutil.copy(source, stage / "report")
        shutil.copytree(workspace.tables, stage / "report" / "tables")
        if workspace.figures.is_dir():
            shutil.copytree(workspace.figures, stage / "figures")
        compiler = typst.Compiler(root=stage, ignore_system_fonts=True, sys_inputs=inputs)
        try:
            pdf = compiler.compile(stage / "report" / "report.typ", format="pdf", timestamp=0)
        except typst.TypstError as error:
            raise ValueError(f"report.typ does not compile: {error.message}\n{error.diagnostic}") from error
    with atomic(workspace.report / "report.pdf") as temporary:
        temporary.write_bytes(pdf)
    return workspace.report / "report.pdf"


def build(profile: Profile) -> Path:
    """Rebuild tables, figures and report from the profile's predictions; return the PDF."""
    predictions = load_predictions(profile.workspace.predictions)
    evaluation = evaluate(predictions, profile.bootstrap)
    found = load_study(profile)
    write_tables(profile, evaluation, profile.workspace.tables, found)
    draw_results(predictions, evaluation, profile.data.name, profile.workspace.figures)
    draw_study(found, profile.data.name, profile.workspace.figures)
    return compile_report(profile)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.report", description="Rebuild the report from predictions.")
    parser.add_argument("--profile", default="synthff", help="smoke, synthff or ffpp (default: synthff)")
    args = parser.parse_args(argv)
    try:
        path = build(get_profile(args.profile))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
