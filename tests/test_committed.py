"""The committed results: made with the settings of today's config.py, and carrying every table, figure, number and sentence."""

from __future__ import annotations

import json
import re
import shutil
from collections import ChainMap
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_report import named_in_the_report, printed, profile_in, text_of

from utils.config import get_profile
from utils.learn.checkpoints import digest, settings_digest
from utils.paths import QUALITY_CURVE, ROOT, SPLIT_RULES_SCORES
from utils.results import (
    claims,
    prose,
    quality_curve,
    report,
    split_rules,
    store,
    unlabelled,
    where_it_looks,
    without_fakes,
)
from utils.results.style import write_figures
from utils.run import grid

SYNTHFF = get_profile("synthff")
SPACE = SYNTHFF.workspace
# Tables that notebooks 01 and 02 write.
FROM_NOTEBOOKS = ("data_quality", "data_shortcuts", "data_splits", "extraction", "tracks", "wrong_faces")
DRAWN_BY_NOTEBOOKS = ("bitrates", "extraction", "growth", "shortcuts", "shortcuts_outside")
NUMBER = re.compile(r"(?<![\w#])[-−+]?\d*\.?\d+(?![\w])")


@pytest.fixture(scope="module")
def runs():
    return store.load_committed(SYNTHFF, "runs")


@pytest.fixture(scope="module")
def tables():
    return prose.read_tables(SPACE.tables)


@pytest.mark.parametrize("group", grid.GROUPS)
def test_committed_runs_were_made_with_the_settings_of_config(group, runs):
    known = runs.set_index(["experiment", "run"])["settings"].to_dict()
    todo = [task for task in grid.tasks(SYNTHFF, group) if task.model != "efficientnet-b4-noisy"]  # its weights are on a hub
    wanted = {key: value for task in todo for key, value in grid.expected(SYNTHFF, task).items()}
    assert len(wanted) >= 20 and {key: known.get(key) for key in wanted} == wanted


def test_hashes_are_those_of_the_configurations_beside_them(runs):
    for row in runs.itertuples():
        request = {name: value for name, value in json.loads(row.config).items() if name != "versions"}
        if not isinstance(row.chosen, str):  # a chosen run keeps the hash of the iteration that it is a copy of
            assert digest(request) == row.hash and settings_digest(request) == row.settings, row.run
        assert request["train_config"]["precision"] == row.precision in ("bf16", "fp32")
    assert not runs.duplicated(["experiment", "run"]).any()


def test_every_scored_run_has_its_row_and_every_teacher_is_there(runs):
    scored = store.load_committed(SYNTHFF, "predictions")[["experiment", "run"]].drop_duplicates()
    assert set(map(tuple, scored.to_numpy())) <= set(map(tuple, runs[["experiment", "run"]].to_numpy()))
    teachers = {json.loads(config).get("teacher") for config in runs["config"]} - {None}
    assert teachers <= set(runs["hash"]) and len(teachers) > 50


def test_every_column_stands_in_the_data_dictionary():
    text = (SPACE.results / "README.md").read_text(encoding="utf-8")
    for table in store.TABLES.values():
        section = text[text.index(f"## {table.file}") :]
        section = section[: section.find("\n## ", 3)]
        assert [column for column in table.columns if f"`{column}`" not in section] == []
    read = next(line for line in text.splitlines() if line.startswith("scores = "))  # the one line of pandas
    scope = {"pd": pd}
    exec(read.replace("data/results", str(SPACE.results)), scope)
    assert tuple(scope["scores"].columns) == store.TABLES["predictions"].columns
    assert set(scope["scores"]["video_id"].str.len()) == {3, 7}  # ids stay text


@pytest.mark.parametrize("name", prose.CLAIMS)
def test_every_claim_holds_on_the_committed_tables(name, tables):
    numbers = prose.CLAIMS[name].numbers(tables)  # raises where a table is missing
    assert prose.CLAIMS[name].holds(numbers)
    assert not prose.say(name, tables).startswith("[") and "{" not in prose.say(name, tables)


def test_every_claim_is_printed_somewhere():
    texts = [
        path.read_text(encoding="utf-8")
        for path in [*(ROOT / "notebooks").glob("[01][0-689]*.ipynb"), ROOT / "report" / "report.typ"]
    ]
    printed = {name for text in texts for name in prose.CLAIMS if re.search(rf"\b{name}\b", text)}
    printed |= {name for paragraphs in claims.README_BLOCKS.values() for paragraph in paragraphs for name in paragraph}
    assert printed == set(prose.CLAIMS)


def test_a_changed_table_breaks_a_claim(tables):
    labels = tables["labels"].copy()
    labels.loc[labels["phase"] == "over_control", "lo"] = 0.001
    assert "does not hold" in prose.say("pseudo_labels_add", tables | {"labels": labels})


def test_the_readme_holds_the_numbers_of_the_committed_tables(tables, tmp_path):
    path = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", path)
    report.update_readme(tables, path)
    assert path.read_text(encoding="utf-8") == (ROOT / "README.md").read_text(encoding="utf-8")


def test_facts_hold_the_claims_of_the_committed_tables(tables):
    facts = json.loads((SPACE.tables / "facts.json").read_text(encoding="utf-8"))
    assert facts["claims"] == {name: prose.say(name, tables) for name in prose.CLAIMS}
    assert facts["settings"] == json.loads(json.dumps(report.settings_facts(SYNTHFF)))


def test_the_committed_report_prints_every_claim_that_it_names(tables):
    text = text_of(SPACE.report / "report.pdf")
    assert [name for name in named_in_the_report() if not printed(prose.say(name, tables), text)] == []


SEALED = [QUALITY_CURVE / quality_curve.SCORES, QUALITY_CURVE / quality_curve.VIDEOS, SPLIT_RULES_SCORES]


@pytest.mark.parametrize("path", SEALED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_score_that_was_edited_is_refused(path, tmp_path):
    """However plausible it is: the committed tables are sealed."""
    shutil.copytree(path.parent, tmp_path / "copy")
    copy = tmp_path / "copy" / path.name
    store.require_sealed(path)
    store.require_sealed(copy)
    table = pd.read_csv(copy)
    number = next(name for name in ("score", "kbits") if name in table)
    table.assign(**{number: table[number].where(table.index > 0, 0.5)}).to_csv(copy, index=False)
    with pytest.raises(ValueError, match=f"{path.name}: changed since it was written"):
        store.require_sealed(copy)
    store.seal(copy)
    store.require_sealed(copy)


def close(one: str, two: str, within: float) -> bool:
    """Tell whether two texts are the same but for numbers that lie close to each other."""
    numbers = [[float(number.replace("−", "-")) for number in NUMBER.findall(text)] for text in (one, two)]
    return NUMBER.sub("#", one) == NUMBER.sub("#", two) and np.allclose(*numbers, rtol=0, atol=within)


@pytest.mark.slow
def test_tables_and_figures_are_what_the_committed_predictions_give(tmp_path):
    profile = profile_in(tmp_path, base="synthff")
    shutil.copytree(SPACE.results, profile.workspace.results)
    profile.workspace.tables.mkdir(parents=True)
    for name in FROM_NOTEBOOKS:
        shutil.copy(SPACE.tables / f"{name}.csv", profile.workspace.tables)
    results = report.build(profile)
    practised = [part.tables(profile.bootstrap) for part in (split_rules, quality_curve, where_it_looks)]
    whole = replace(  # with what stands beside the committed results alone
        results, unlabelled=unlabelled.load_unlabelled(get_profile("study")), fakeless=without_fakes.tables(profile.bootstrap),
        practice=dict(ChainMap(results.practice, *practised)),
    )  # fmt: skip
    for name, table in (whole.fakeless | whole.practice | unlabelled.tables(whole.unlabelled)).items():
        report.write_table(profile.workspace.tables / f"{name}.csv", table)
    beside = report.UNLABELLED_FIGURES | report.FAKELESS_FIGURES | report.PRACTICE_FIGURES | report.WHERE_FIGURES
    drawn = whole.figures()
    write_figures({name: drawn[name] for name in beside}, profile.workspace.figures)
    made = sorted(path.name for path in profile.workspace.tables.glob("*.csv"))
    assert made == sorted(path.name for path in SPACE.tables.glob("*.csv"))
    for name in made:  # another processor may round the last digit the other way
        one, two = ((space.tables / name).read_text(encoding="utf-8") for space in (profile.workspace, SPACE))
        assert close(one, two, 0.1 if name == "cases.csv" else 0.0011), name
    drawn = sorted(path.name for path in profile.workspace.figures.glob("*.svg"))
    assert drawn == sorted(path.name for path in SPACE.figures.glob("*.svg") if path.stem not in DRAWN_BY_NOTEBOOKS)
    for name in drawn:
        one, two = ((space.figures / name).read_text(encoding="utf-8") for space in (profile.workspace, SPACE))
        assert close(one, two, 1.0), name  # points of 1/72 inch
