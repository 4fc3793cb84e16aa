"""Every number and verdict that the report's prose names, as text ready to print: facts.json."""

from __future__ import annotations

import pandas as pd

from utils.config import Profile
from utils.experiments import TEACHERS
from utils.metrics import Evaluation, validation_auc
from utils.plots import accuracy_gaps, load_original, one_run_a_model
from utils.study import Study
from utils.study import tables as study_tables
from utils.style import MODELS, PHASES


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _signed(row) -> str:
    return _minus(f"{row.value:+.3f} (95 % interval {row.lo:+.3f} to {row.hi:+.3f})")


def _interval(row) -> str:
    return f"{row.auc:.3f} (95 % interval {row.auc_lo:.3f} to {row.auc_hi:.3f})"


def _network_facts(evaluation: Evaluation) -> dict:
    """Return XceptionNet's and the best-validated EfficientNet's AUC, in the phase that validated best."""
    table = one_run_a_model(evaluation).query("level == 'video'")
    valid = validation_auc(evaluation).mean(axis=1)
    facts = {}
    for family in ("xception", "efficientnet"):
        part = table[table["model"].str.startswith(family)]
        if len(part):
            part = part[part["run"] == max(part["run"], key=valid.get)]
            facts[family] = {"network": MODELS[part["model"].iloc[0]], "phase": PHASES[part["phase"].iloc[0]]}
            facts[family] |= {row.quality: _interval(row) for row in part.itertuples()}
    return facts


def _result_facts(results: pd.DataFrame, differences: pd.DataFrame) -> dict:
    """Return counts of methods above chance, what compression costs and averaging gains, and what phase 3 gains."""
    videos = results.query("level == 'video' and phase in @PHASES")
    compression = differences.query("question == 'compression' and phase in @PHASES")
    facts = {"methods": len(compression), "better_at_c23": int((compression["lo"] > 0).sum())}
    for quality, part in videos.groupby("quality"):
        facts[f"above_chance_{quality}"] = int((part["auc_lo"] > 0.5).sum())
    if len(compression):
        facts["compression_mean"] = _minus(f"{compression['value'].mean():.3f}")
    for quality, part in differences.query("question == 'averaging' and phase in @PHASES").groupby("quality"):
        facts[f"averaging_{quality}"] = _minus(f"{part['value'].mean():.3f}")
    noisy = differences.query("phase == 'noisy_trained' and question in ('phase', 'taught')")
    for (question, quality), part in noisy.groupby(["question", "quality"]):
        facts[f"noisy_{question}_{quality}"] = _changes(part)
    return facts


def _changes(differences: pd.DataFrame) -> dict:
    """Return the mean of differences, and how many are shown to be higher or lower."""
    higher, lower = int((differences["lo"] > 0).sum()), int((differences["hi"] < 0).sum())
    mean = _minus(f"{differences['value'].mean():+.3f}")
    return {"mean": mean, "methods": len(differences), "higher": higher, "lower": lower}


def _robustness_facts(robustness: pd.DataFrame) -> dict:
    """Return the size of test_hard and, per quality, the mean change and how many methods are shown to lose or gain."""
    if robustness.empty:
        return {}
    first = robustness.iloc[0]
    facts = {"pairs": int(first["n_pairs"]), "real": int(first["n_real"]), "fake": int(first["n_fake"])}
    for quality, part in robustness.groupby("quality"):
        facts[quality] = _changes(part.rename(columns={"change": "value", "change_lo": "lo", "change_hi": "hi"}))
    return facts


def _student_facts(differences: pd.DataFrame) -> dict:
    part = differences[differences["question"] == "student"]
    return {f"{row.phase}_{row.quality}": {"verdict": row.verdict, "difference": _signed(row)} for row in part.itertuples()}


def _original_facts(evaluation: Evaluation, name: str) -> dict:
    """Return the original's best accuracies and the points lost from validation to test, there and here, in %."""
    original = load_original()
    best = original.groupby("phase")["test_acc_all"].max()
    gaps = accuracy_gaps(evaluation, name)
    ours = gaps.dropna(subset=["lo", "hi"])
    ours = ours.assign(quality=ours["group"].str.split(", ").str[-1])
    return {
        "cases": len(original),
        "best_val": f"{original['val_acc_all'].max():.1f}",
        "best_test": f"{original['test_acc_all'].max():.1f}",
        "best_noisy": f"{best['noisy_trained']:.1f}",
        "best_supervised": f"{best.drop('noisy_trained').max():.1f}",
        "gap": {group.split(", ")[-1]: _minus(f"{part['gap'].mean():.1f}") for group, part in gaps.groupby("group")},
        "zero": {
            quality: {"cases": len(part), "held": int(part["holds_zero"].sum())} for quality, part in ours.groupby("quality")
        },
    }


def collect(
    profile: Profile, evaluation: Evaluation, tables: dict[str, pd.DataFrame], found: Study | None = None
) -> dict:
    """Return every number and verdict of the prose, as text ready to print."""
    test = evaluation.table.query("split == 'test'").groupby("level")[["n_pairs", "n_real", "n_fake"]].max()
    return {
        "dataset": profile.data.name,
        "profile": profile.name,
        "resamples": profile.bootstrap,
        "test": {level: {name: int(row[name]) for name in test} for level, row in test.iterrows()},
        "networks": _network_facts(evaluation),
        "results": _result_facts(tables["results"], tables["differences"]),
        "student": _student_facts(tables["differences"]),
        "robustness": _robustness_facts(tables["robustness"]),
        "student_hard": _student_facts(tables["differences_hard"]),
        "original": _original_facts(evaluation, profile.data.name),
        "settings": _settings_facts(profile),
        "study": of_study(found, tables),
    }


def _settings_facts(profile: Profile) -> dict:
    """Return the settings that the section on methods names."""
    student, faces = profile.student, profile.faces
    compression = profile.student_of("student_compression")
    names = ("iterations", "mu", "threshold", "calibrate", "dropout", "drop_path", "soft", "balance", "clip_level", "lambda_u")
    names += ("T", "student_init", "later_init")
    return {
        **{name: getattr(faces, name) for name in ("frame_step", "scale", "size", "detector")},
        **{name: getattr(student, name) for name in names},
        "compression": {name: getattr(compression, name) for name in ("threshold", "soft", "loss")},
        "keep": profile.train.keep,
        "n": student.randaugment_n,
        "m": student.randaugment_m,
        "px": next(iter(profile.models.values())).px,
        "student_model": MODELS[profile.student_model],
        "labelled": f"{100 * profile.data.labelled_fraction:.0f}",
    }


def _estimate(found: dict[str, float]) -> str:
    return _minus(f"{found['value']:+.3f} [{found['lo']:+.3f}, {found['hi']:+.3f}]")


def of_study(study: Study | None, made: dict[str, pd.DataFrame] | None = None) -> dict:
    """Return the numbers that the report's prose names, as text, from `made`, the `tables`; nothing without a study."""
    if study is None:
        return {}
    made = made or study_tables(study)
    contrasts, labels, ablation = made["contrasts"], made["labels"], made["ablation"]
    found: dict = {"people": study.people, "seeds": int(contrasts["seeds"].max()), "contrasts": {}}
    for row in contrasts.query("split == 'test'").to_dict("records"):
        found["contrasts"][f"{row['phase']}_{row['versus']}_{row['quality']}"] = _estimate(row)
    closed = labels.query("phase == 'gap_closed' and quality == 'c40' and people == @study.people").dropna(subset="value")
    for share in closed.to_dict("records"):
        found["gap_closed"] = _minus(f"{share['value']:.0%} [{share['lo']:.0%}, {share['hi']:.0%}]")
    few = made["few_labels"].query("quality == 'c40'")
    fewest = few[few["people"] == few["people"].min()]
    if few["people"].nunique() > 1:
        found["fewest"] = {"people": int(fewest["people"].iloc[0]), "seeds": int(fewest["seeds"].min())}
        found["fewest"] |= {f"{row['phase']}_{row['versus']}": _estimate(row) for row in fewest.to_dict("records")}
    gains = labels[labels["phase"].str.startswith("gain_") & (labels["quality"] == "c40")]
    if gains["people"].nunique() > 1:
        for student in TEACHERS:
            best = max(gains[gains["phase"] == f"gain_{student}"].to_dict("records"), key=lambda row: row["value"])
            found[f"best_{student}"] = {"people": int(best["people"]), "gain": _estimate(best)}
    over = labels.query("phase == 'over_control' and quality == 'c40'").sort_values("people").to_dict("records")
    if over:
        found["over_control"] = "; ".join(f"{_estimate(row)} with the labels of {row['people']} people" for row in over)
    at_c40 = ablation[ablation["quality"] == "c40"]
    if len(at_c40):
        lost = at_c40[at_c40["auc"] < 0.6]
        found["ablation"] = {
            "chance": ", ".join(f"{row.factor}: {row.setting}".replace("_", " ") for row in lost.itertuples()),
            "count": len(at_c40), "seeds": int(at_c40["seeds"].max()),
            "better": int((at_c40["lo"] > 0).sum()), "worse": int((at_c40["hi"] < 0).sum()),
            "above": int((at_c40["change"] > 0).sum()), "above_val": int((at_c40["change_val"] > 0).sum()),
        }  # fmt: skip
    for student, part in made["taught"].groupby("student"):
        by = part.groupby("iteration")["right"].mean()
        found[f"right_{student}"] = f"{by.iloc[0]:.1%}" + (f" to {by.iloc[-1]:.1%}" if len(by) > 1 else "")
    return found
