"""Everything that is made of results, by one call: tables, claims, figures, the report and the README's numbers.

    python -m utils.results.report [--profile synthff]

report/report.typ holds the layout and the prose of methods; its numbers come from report/tables/, its sentences about results
from `claims`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
import typst
from matplotlib.figure import Figure

from utils.config import PROFILES, Profile, get_profile
from utils.faces.splits import HARD
from utils.paths import REAL_FOOTAGE, REPORT, ROOT, atomic
from utils.protocol import ARMS, STUDIES
from utils.results import (
    claims,
    practice,
    prose,
    quality_curve,
    split_rules,
    store,
    study,
    tables,
    unlabelled,
    where_it_looks,
    without_fakes,
)
from utils.results.metrics import Evaluation, evaluate
from utils.results.plots import RESULT_FIGURES, transfer
from utils.results.practice_plots import PRACTICE_FIGURES
from utils.results.study import Study, load_study
from utils.results.study_plots import STUDY_FIGURES
from utils.results.style import LABELS, MODELS, write_figures
from utils.results.unlabelled import Unlabelled, load_unlabelled
from utils.results.unlabelled_plots import UNLABELLED_FIGURES
from utils.results.where_it_looks_plots import WHERE_FIGURES
from utils.results.without_fakes_plots import FAKELESS_FIGURES

# Tables that notebooks 01 and 02 write.
FROM_NOTEBOOKS = ("data_quality", "data_shortcuts", "data_splits", "extraction", "tracks", "wrong_faces")
BLOCK = r"(<!-- {name} -->\n).*?(<!-- /{name} -->)"  # of the README


@dataclass(frozen=True)
class Results:
    """All that tables and figures are made of: the scores of the comparison and the cases, measured, and both studies."""

    profile: Profile
    predictions: pd.DataFrame
    evaluation: Evaluation
    study: Study | None
    transfer: pd.DataFrame  # from one manipulation method to another, where a tree has several
    unlabelled: Unlabelled | None = None  # what unlabelled video is worth: beside the committed results alone
    fakeless: dict[str, pd.DataFrame] = field(default_factory=dict)  # the tables of what is learned without fakes, likewise
    practice: dict[str, pd.DataFrame] = field(default_factory=dict)  # calibration, aggregation, groups, splits, quality

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return every table of the report by name."""
        measured = self.evaluation
        return {
            "results": tables.results_table(measured),
            "networks": tables.networks_table(measured),
            "cases": tables.cases_table(measured),
            "gaps": tables.accuracy_gaps(measured, self.profile.data.name),
            "differences": tables.differences_table(measured),
            "averages": tables.averages_table(measured),
            "robustness": tables.robustness_table(measured),
            "settings": tables.settings_table(self.profile),
            **tables.data_tables(self.profile),
            **study.tables(self.study),
            **store.load_measured(self.profile),
            **({"transfer": self.transfer} if len(self.transfer) else {}),
            **unlabelled.tables(self.unlabelled),
            **self.fakeless,
            **self.practice,
            "instrument": tables.instrument_table(),
            "field": tables.field_table(),
            "real_footage": pd.read_csv(REAL_FOOTAGE),
        }

    def figures(self) -> dict[str, Callable[[], Figure | None]]:
        """Return what draws each figure, by name; one that has nothing to show returns None."""
        name = self.profile.data.name
        practised = {key: partial(draw, self.practice, name) for key, draw in (PRACTICE_FIGURES | WHERE_FIGURES).items()}
        drawn = {key: partial(draw, self.predictions, self.evaluation, name) for key, draw in RESULT_FIGURES.items()}
        nothing = dict.fromkeys(STUDY_FIGURES, lambda: None)  # so that those of an older study are removed
        studied = {key: partial(draw, self.study, name) for key, draw in STUDY_FIGURES.items()}
        drawn |= {"transfer": partial(transfer, self.transfer, name)} | (studied if self.study else nothing)
        name = get_profile("study").data.name
        asked = {key: partial(draw, self.unlabelled, name) for key, draw in UNLABELLED_FIGURES.items()}
        name = get_profile("shipped").data.name
        without = {key: partial(draw, self.fakeless, name) for key, draw in FAKELESS_FIGURES.items()}
        return drawn | (asked if self.unlabelled else dict.fromkeys(UNLABELLED_FIGURES, lambda: None)) | without | practised


def load_results(profile: Profile) -> Results:
    """Read and measure the results of a profile."""
    predictions = store.load_predictions(profile)
    compared = store.of_comparison(predictions)
    measured, moved = evaluate(compared, profile.bootstrap), tables.transfer_table(predictions, profile.bootstrap)
    ours = profile.workspace.root == ROOT
    asked = load_unlabelled(get_profile("study")) if ours else None
    without = without_fakes.tables(profile.bootstrap) if ours else {}
    practised = practice.tables(compared, profile.student_model, Path(profile.data.root), profile.bootstrap)
    if (wrong := profile.workspace.tables / "wrong_faces.csv").is_file():
        practised |= tables.right_tables(compared, tables.read_wrong_faces(wrong), profile.bootstrap)
    if profile.base.workspace.root == ROOT:  # what was measured on the committed data alone
        practised |= split_rules.tables(profile.bootstrap) | quality_curve.tables(profile.bootstrap)
        practised |= where_it_looks.tables(profile.bootstrap)
    return Results(profile, compared, measured, load_study(profile, predictions), moved, asked, without, practised)


def build(profile: Profile) -> Results:
    """Make every table, claim and figure anew, then the report and, of the committed results, the README's numbers.

    A table of an older build that is not made any more is removed, or claims would go on to tell of it.
    """
    results, space = load_results(profile), profile.workspace
    made = results.tables()
    for name, table in made.items():
        write_table(space.tables / f"{name}.csv", table)
    for path in space.tables.glob("[!.]*.csv"):
        if path.stem not in (*made, *FROM_NOTEBOOKS):
            path.unlink()
    write_facts(profile)
    write_figures(results.figures(), space.figures)
    compile_report(profile)
    if space.root == ROOT:
        update_readme(prose.read_tables(space.tables))
    return results


def write_table(path: Path, table: pd.DataFrame) -> None:
    with atomic(path) as temporary:
        digits = "%.1f" if path.stem == "cases" else "%.3f"
        table.to_csv(temporary, index=False, float_format=digits, lineterminator="\n")


def write_facts(profile: Profile) -> None:
    """Write facts.json, what the report's prose needs beside the tables: settings, counts, and the claims."""
    read = prose.read_tables(profile.workspace.tables)
    facts = {
        "dataset": profile.data.name,
        "profile": profile.name,
        "resamples": profile.bootstrap,
        "test": counts(read["results"].query("level == 'video'")),
        "hard": counts(read["robustness"]),
        "settings": settings_facts(profile),
        "reproducibility": run_facts(profile),
        "claims": {name: prose.say(name, read) for name in prose.CLAIMS},
    }
    with atomic(profile.workspace.tables / "facts.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def run_facts(profile: Profile) -> dict:
    """Return how many runs and seeds the scores come from, in which precisions, and with which versions most of them were made.

    `uncommitted` of them were made by code that differed from its commit, `unrecorded` on a processor that nobody wrote down.
    """
    runs = store.load_runs(profile)
    found = runs["config"].dropna().map(lambda config: json.dumps(json.loads(config).get("versions", {}))).mode()
    versions = json.loads(found.iloc[0]) if len(found) else {}
    return {
        "runs": len(runs), "seeds": int(runs["seed"].nunique()), "versions": versions,
        "precisions": sorted(runs["precision"].dropna().unique()),
        "uncommitted": int(runs["commit"].astype(str).str.endswith("+").sum()),
        "unrecorded": int((runs["cpu"] == "not recorded").sum()),
    }  # fmt: skip


def counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return pairs, real and fake videos at each quality of a table of results."""
    columns = ["n_pairs", "n_real", "n_fake"]
    return {quality: {name: int(part[name].max()) for name in columns} for quality, part in table.groupby("quality")}


def settings_facts(profile: Profile) -> dict:
    """Return the settings that the section on methods names."""
    student, faces = profile.student, profile.faces
    compression = profile.student_of("student_compression")
    names = ("iterations", "mu", "threshold", "calibrate", "dropout", "drop_path", "soft", "balance", "clip_level", "lambda_u")
    names += ("T", "student_init", "later_init")
    asked = STUDIES["study"]
    learned = {people: people - asked.validating(people) for people in (*asked.label_counts, asked.all_labels)}
    return {
        **{name: getattr(faces, name) for name in ("frame_step", "scale", "size", "detector", "max_frames", "sampling")},
        **{name: getattr(student, name) for name in names},
        "compression": {name: getattr(compression, name) for name in ("threshold", "soft", "degrade")},
        "keep": profile.train.keep,
        "n": student.randaugment_n,
        "m": student.randaugment_m,
        "student_model": MODELS[profile.student_model],
        "labelled": f"{100 * profile.data.labelled_fraction:.0f}",
        "student_key": profile.student_model,
        "arms": {arm: about.label for arm, about in ARMS.items()},
        "study": {name: getattr(asked, name) for name in ("labels", "pool", "student_pool", "frames", "all_labels")}
        | {"mu": get_profile("study").student.mu, "learned": learned[asked.labels]}
        | {"learned_others": prose.listed([str(count) for people, count in learned.items() if people != asked.labels])},
    }


def compile_report(profile: Profile, source: str = "report", out: Path | None = None) -> Path:
    """Set report.typ, or the `slides`, with the profile's tables and figures; return the PDF, the same bytes for equal input.

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
        for file in [*REPORT.glob("*.typ"), *REPORT.glob("*.bib")]:
            (stage / "report").mkdir(exist_ok=True)
            shutil.copy(file, stage / "report")
        shutil.copytree(workspace.tables, stage / "report" / "tables")
        shutil.copy(ROOT / "CITATION.cff", stage)
        if workspace.figures.is_dir():
            shutil.copytree(workspace.figures, stage / "figures")
        compiler = typst.Compiler(root=stage, ignore_system_fonts=True, sys_inputs=inputs)
        try:
            pdf = compiler.compile(stage / "report" / f"{source}.typ", format="pdf", timestamp=0)
        except typst.TypstError as error:
            raise ValueError(f"{source}.typ does not compile: {error.message}\n{error.diagnostic}") from error
    path = out or workspace.report / f"{source}.pdf"
    with atomic(path) as temporary:
        temporary.write_bytes(pdf)
    return path


def results_markdown(results: pd.DataFrame, robustness: pd.DataFrame, control: pd.DataFrame | None = None) -> str:
    """Return AUC of videos as a Markdown table, one row a method, from three tables; test_hard's columns where it is.

    The control, which is an experiment and no phase, stands at the end where it was run.
    """
    test = results.query("level == 'video'").rename(columns={"auc": "test", "auc_lo": "test_lo", "auc_hi": "test_hi"})
    parts = {"test": test} | ({"hard": robustness} if len(robustness) else {})
    columns = [(split, quality) for split in parts for quality in sorted(test["quality"].unique())]
    heads = ["phase", "network", "seeds", *(q if split == "test" else f"{q}, `{HARD}`" for split, q in columns)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for phase, model, seeds in test[["phase", "model", "seeds"]].drop_duplicates(["phase", "model"]).itertuples(index=False):
        cells = [_cell(parts[split], split, (phase, model, quality)) for split, quality in columns]
        lines.append(f"| {LABELS[phase]} | {MODELS[model]} | {seeds} | {' | '.join(cells)} |")
    if control is not None and len(control):
        own = control.query("phase == 'control'").set_index(["split", "quality"])
        rows = [own.loc[HARD if split == "hard" else split].loc[quality] for split, quality in columns]
        cells = [f"{prose.Estimate(row['value'], row['lo'], row['hi'])}" for row in rows]
        network = MODELS[test.loc[test["phase"] == "student_compression", "model"].iloc[0]]
        lines.append(f"| control: labels alone | {network} | {int(own['seeds'].iloc[0])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(table: pd.DataFrame, split: str, key: tuple[str, str, str]) -> str:
    """Return a value with its interval from the row of (phase, model, quality); "" where there is none."""
    rows = table[pd.MultiIndex.from_frame(table[["phase", "model", "quality"]]) == key]
    return "".join(f"{prose.Estimate(*row)}" for row in rows[[split, f"{split}_lo", f"{split}_hi"]].itertuples(index=False))


def update_readme(read: dict[str, pd.DataFrame], path: Path = ROOT / "README.md") -> None:
    """Rewrite the README's blocks from the report's tables; raise ValueError for a README that lacks one."""
    text = path.read_text(encoding="utf-8")
    blocks = {name: prose.block(paragraphs, read) for name, paragraphs in claims.README_BLOCKS.items()}
    shown = results_markdown(read["results"], read["robustness"], read.get("control"))
    for name, block in (blocks | {"results": shown}).items():
        pattern = re.compile(BLOCK.format(name=name), re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{path} has no block <!-- {name} --> ... <!-- /{name} -->: put it back")
        text = pattern.sub(lambda match, block=block: match[1] + block + match[2], text)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.results.report", description="Rebuild the report from results.")
    parser.add_argument("--profile", default="synthff", choices=sorted(PROFILES))
    parser.add_argument("--slides", type=Path, metavar="FILE", help="set ten slides of what is there, and rebuild nothing")
    args = parser.parse_args(argv)
    try:
        profile = get_profile(args.profile)
        if args.slides:
            print(f"wrote {compile_report(profile, 'slides', args.slides)}")
            return 0
        build(profile)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {profile.workspace.report / 'report.pdf'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
