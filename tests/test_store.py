"""Committed tables and this machine's run folders: which of the two is read, and what may rewrite which."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from mock_predictions import make_run, write_predictions

from utils.config import PROFILES, Profile
from utils.learn.scores import COLUMNS, JUDGED, SCORES, write_scores
from utils.paths import Workspace, write_json
from utils.results import store
from utils.run import compare, reproduce

RESULT = {
    "step": 2,
    "steps": 2,
    "loss": 0.7,
    "val_loss": 0.6,
    "val_auc_c23": 0.9,
    "val_auc_c40": 0.7,
    "val_auc": 0.8,
    "seconds": 1.0,
}


class Elsewhere(Profile):
    """A profile whose committed results and runs lie in a temporary folder, named by `data.root`."""

    @property
    def workspace(self) -> Workspace:
        root = Path(self.data.root)
        work = root / "work" / self.name
        return Workspace(root, self.variant, work) if not self.repeat_of else Workspace(work, self.variant)


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Return a default profile with four committed runs, three seeds of `trained` and one of an experiment, and its repeat."""
    profile = Elsewhere(name="synthff", data=replace(PROFILES["synthff"].data, root=str(tmp_path)), bootstrap=20)
    runs = [make_run("xception", "trained", seed) for seed in (0, 1, 2)]
    runs.append(make_run("xception", "oracle", 0).assign(experiment="labels/people/2"))
    write_predictions(profile.workspace.results, pd.concat(runs).fillna({"experiment": ""}))
    monkeypatch.setitem(PROFILES, "synthff", profile)
    monkeypatch.setattr(compare, "get_profile", lambda name: profile if name == "synthff" else repeating(profile))
    return profile


def repeating(profile):
    return replace(profile, name="repeat", repeat_of="synthff")


def write_run(profile, scores, settings="s", experiment="", pairs=("a_b", "c_d")):
    """Write the run folder of made-up scores as training and scoring would."""
    first = scores.iloc[0]
    folder = replace(profile, variant=experiment).workspace.runs / first["run"]
    about = {
        name: value.item() if hasattr(value := first[name], "item") else value for name in ("run", "model", "phase", "seed")
    }
    machine = {"cpu": "x86_64 AVX2", "threads": 1, "device": "cpu"}
    config = about | {"hash": "h2", "settings": settings, "git_commit": "c", "machine": machine, "data": {"pairs": list(pairs)}}
    write_json(folder / "config.json", config | {"train_config": {"precision": "fp32"}})
    (folder / "log.jsonl").write_text(json.dumps(RESULT) + "\n")
    write_json(folder / "result.json", RESULT)
    write_scores(folder / SCORES, scores[list(COLUMNS)])
    return folder


def others(scores):
    """Return the same faces with scores that are a little off."""
    return scores.assign(score=(scores["score"] * 0.9).round(6))


def scores_of(profile, run, experiment=""):
    table = store.load_predictions(profile).query("run == @run and experiment == @experiment")
    return table.sort_values(["split", "quality", "video_id", "frame"])["score"].to_numpy()


def in_order(scores):
    return scores.sort_values(["split", "quality", "video_id", "frame"])["score"].to_numpy()


def test_a_committed_run_stands_and_a_new_one_joins_it(profile):
    committed, new = make_run("xception", "trained", 0), make_run("xception", "trained", 7)
    write_run(profile, others(committed))
    write_run(profile, new)
    assert scores_of(profile, "trained-xception-s0") == pytest.approx(in_order(committed), abs=1e-5)
    assert scores_of(profile, "trained-xception-s7") == pytest.approx(in_order(new), abs=1e-5)
    assert set(store.load_runs(profile)["run"]) >= {"trained-xception-s0", "trained-xception-s7"}
    assert not store.load_predictions(profile).duplicated(["experiment", "run", *store.FACE]).any()


def test_a_run_with_other_settings_replaces_the_committed_one(profile):
    run = others(make_run("xception", "trained", 0))
    write_run(profile, run, settings="changed in config.py")
    assert scores_of(profile, "trained-xception-s0") == pytest.approx(in_order(run), abs=1e-5)
    row = store.load_runs(profile).query("run == 'trained-xception-s0'").iloc[0]
    assert (row["settings"], row["precision"], row["cpu"], row["labelled_people"]) == (
        "changed in config.py",
        "fp32",
        "x86_64 AVX2",
        4,
    )


def test_a_run_that_had_the_labels_of_others_replaces_the_committed_one(profile):
    """`labelled_fraction` is no setting of a network, and yet another number of labelled people makes another run."""
    run = others(make_run("xception", "trained", 0))
    write_run(profile, run, pairs=["a_b"])
    assert scores_of(profile, "trained-xception-s0") == pytest.approx(in_order(run), abs=1e-5)
    assert store.load_runs(profile).query("run == 'trained-xception-s0'")["labelled_people"].item() == 2


def test_a_repeated_run_stands_before_the_committed_one_and_gaps_are_filled(profile):
    repeat, run = repeating(profile), others(make_run("xception", "trained", 0))
    write_run(repeat, run)
    assert scores_of(repeat, "trained-xception-s0") == pytest.approx(in_order(run), abs=1e-5)
    assert scores_of(repeat, "trained-xception-s1") == pytest.approx(in_order(make_run("xception", "trained", 1)), abs=1e-5)
    assert scores_of(profile, "trained-xception-s0") == pytest.approx(in_order(make_run("xception", "trained", 0)), abs=1e-5)


def test_experiments_and_the_comparison_share_run_names(profile):
    run = others(make_run("xception", "oracle", 0))
    write_run(profile, run)
    assert scores_of(profile, "oracle-xception-s0") == pytest.approx(in_order(run), abs=1e-5)
    committed = in_order(make_run("xception", "oracle", 0))
    assert scores_of(profile, "oracle-xception-s0", "labels/people/2") == pytest.approx(committed, abs=1e-5)
    assert set(store.of_comparison(store.load_predictions(profile))["run"]) >= {"oracle-xception-s0"}


def test_curves_and_pseudo_labels_come_from_run_folders(profile):
    folder = write_run(profile, make_run("xception", "student_classic_it1", 0))
    judged = {name: 0 for name in store.JUDGED_COLUMNS[1:]} | {
        "run": folder.name,
        "phase": "student_classic_it1",
        "view": "c40",
    }
    pd.DataFrame([judged]).to_csv(folder / JUDGED, index=False)
    assert list(store.curves_of(profile, [folder.name])[folder.name]["val_auc"]) == [0.8]
    assert list(store.load_pseudo_labels(profile)["run"]) == [folder.name]


def test_nothing_to_read_is_one_clear_line(tmp_path):
    empty = Elsewhere(name="synthff", data=replace(PROFILES["synthff"].data, root=str(tmp_path)))
    assert store.load_runs(empty).empty and not store.has_predictions(empty)
    with pytest.raises(FileNotFoundError, match="no predictions in .*make reproduce"):
        store.load_predictions(empty)
    with pytest.raises(FileNotFoundError, match="no scored run of profile synthff"):
        store.replace_committed(empty)


def test_only_replacing_rewrites_committed_results_and_twice_gives_the_same_bytes(profile):
    repeat, run = repeating(profile), others(make_run("xception", "trained", 0))
    write_run(repeat, run)
    results = profile.workspace.results
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    store.load_predictions(repeat), compare.compare(repeat)
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before
    assert store.replace_committed(repeat) == ["trained-xception-s0"]
    assert scores_of(profile, "trained-xception-s0") == pytest.approx(in_order(run), abs=1e-5)
    assert scores_of(profile, "oracle-xception-s0", "labels/people/2") is not None
    after = {path.name: path.read_bytes() for path in results.iterdir()}
    store.replace_committed(repeat)
    assert {path.name: path.read_bytes() for path in results.iterdir()} == after != before


def test_a_run_that_is_trained_and_not_yet_scored_keeps_its_committed_scores(profile):
    repeat, run = repeating(profile), others(make_run("xception", "trained", 0))
    (write_run(repeat, run, settings="other settings") / SCORES).unlink()
    with pytest.raises(FileNotFoundError, match="no scored run of profile repeat"):
        store.replace_committed(repeat)
    write_run(repeat, others(make_run("xception", "trained", 1)), settings="other settings")
    assert store.replace_committed(repeat) == ["trained-xception-s1"]
    runs = store.load_committed(profile, "runs").set_index("run")[["settings", "hash"]]
    assert runs.loc["trained-xception-s0"].tolist() == ["s", "h"]  # the record of the network that was scored
    assert runs.loc["trained-xception-s1"].tolist() == ["other settings", "h2"]
    assert scores_of(profile, "trained-xception-s0") == pytest.approx(in_order(make_run("xception", "trained", 0)), abs=1e-5)
    changed = in_order(others(make_run("xception", "trained", 1)))
    assert scores_of(profile, "trained-xception-s1") == pytest.approx(changed, abs=1e-5)


def test_new_runs_of_the_grid_join_the_committed_ones(profile):
    new = make_run("xception", "trained", 7)
    write_run(profile, new)
    assert store.replace_committed(profile) == ["trained-xception-s7"]
    predictions = store.load_committed(profile, "predictions")
    assert len(predictions) == 5 * len(new) and not predictions.duplicated(["experiment", "run", *store.FACE]).any()


def test_repeated_runs_are_equal_within_seeds_or_outside(profile, capsys):
    repeat = repeating(profile)
    equal, near = make_run("xception", "trained", 0), make_run("xception", "trained", 1)
    flipped = make_run("xception", "trained", 2)
    write_run(repeat, equal)
    write_run(repeat, others(near))  # another scale: other scores, the same order
    write_run(repeat, flipped.assign(score=1 - flipped["score"]))
    table = compare.compare(repeat).set_index(["run", "quality"])
    assert list(table.loc["trained-xception-s0"]["verdict"]) == ["equal", "equal"]
    assert list(table.loc["trained-xception-s1"]["verdict"]) == ["within seeds", "within seeds"]
    assert list(table.loc["trained-xception-s2"]["verdict"]) == ["outside", "outside"]
    assert (table["repeated"] - table["committed"]).to_numpy() == pytest.approx(table["difference"].to_numpy())
    aucs = compare.aucs_on_test(store.of_comparison(store.load_predictions(profile))).query("quality == 'c40'")["auc"]
    assert table["spread"].xs("c40", level="quality").to_numpy() == pytest.approx(aucs.max() - aucs.min())
    assert compare.main([]) == 0 and compare.main(["--strict"]) == 1
    printed = capsys.readouterr()
    assert (
        "2 equal, 2 within seeds, 2 outside" in printed.out
        and "OUTSIDE the spread of seeds: trained-xception-s2" in printed.err
    )


def test_a_comparison_is_recorded_once_for_each_kind_of_processor(profile):
    repeat = repeating(profile)
    write_run(repeat, make_run("xception", "trained", 0))
    for _ in range(2):
        store.record(repeat, "repeats", compare.compare(repeat))
    other = compare.compare(repeat).assign(cpu="another")
    store.record(repeat, "repeats", other)
    recorded = store.load_measured(profile)["repeats"]
    assert list(recorded["cpu"].value_counts()) == [2, 2] and set(recorded["verdict"]) == {"equal"}


def test_minutes_and_disk_are_recorded_from_what_lies_there(profile, tmp_path):
    repeat, environment = repeating(profile), tmp_path / "environment"
    with pytest.raises(FileNotFoundError, match="nothing to record"):
        reproduce.measured(repeat, 60, environment)
    write_run(repeat, make_run("xception", "trained", 0))
    environment.mkdir()
    for name, at in (("pyvenv.cfg", 1000), (reproduce.READY, 1120)):
        (environment / name).write_bytes(b"0" * 500_000)
        os.utime(environment / name, (at, at))
    row = reproduce.measured(repeat, 90, environment)
    assert row.loc[0, ["minutes", "set_up"]].tolist() == [1.5, 2.0] and row.loc[0, "packages_gb"] == pytest.approx(1e-3)
    store.record(repeat, "main_job", row)
    store.record(repeat, "main_job", row.assign(minutes=3.0))
    kept = store.load_measured(profile)["main_job"]
    assert list(kept["minutes"]) == [3.0] and kept.loc[0, "work_gb"] >= 0


def test_a_method_with_one_seed_borrows_the_spread_of_the_others():
    rows = [
        ("a", "m", "c40", 0.8),
        ("a", "m", "c40", 0.9),
        ("b", "m", "c40", 0.5),
        ("b", "m", "c40", 0.7),
        ("c", "m", "c40", 0.6),
    ]
    spread = compare.seed_spread(pd.DataFrame(rows, columns=["phase", "model", "quality", "auc"])).set_index("phase")["spread"]
    assert spread["a"] == pytest.approx(0.1) and spread["b"] == pytest.approx(0.2) and spread["c"] == pytest.approx(0.15)


def test_comparing_what_repeats_nothing_is_one_clear_line(profile, capsys, monkeypatch):
    assert compare.main(["--profile", "repeat"]) == 2
    assert "no repeated run in" in capsys.readouterr().err
    write_run(repeating(profile), make_run("xception", "trained", 77))  # nobody has committed that seed
    assert compare.main(["--profile", "repeat", "--strict"]) == 2
    assert "no committed run is called trained-xception-s77" in capsys.readouterr().err
    monkeypatch.setattr(compare, "get_profile", lambda name: profile)
    assert compare.main(["--profile", "synthff"]) == 2
    assert "repeats no other" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "load"), [("config.json", store.load_runs), ("log.jsonl", store.load_curves)])
def test_a_damaged_run_of_this_machine_is_named(profile, name, load):
    again = repeating(profile)
    write_run(again, make_run("xception", "trained", 0))
    path = again.workspace.runs / "trained-xception-s0" / name
    load(again)
    path.write_text(path.read_text()[:10])
    with pytest.raises(ValueError, match=r"trained-xception-s0 is no finished run \(.*\): train it again") as told:
        load(again)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_damaged_judgements_of_a_run_are_named(profile, text):
    again = repeating(profile)
    (write_run(again, make_run("xception", "trained", 0)) / JUDGED).write_text(text)
    with pytest.raises(ValueError, match=f"trained-xception-s0/{JUDGED}: no .*: train the run again") as told:
        store.load_pseudo_labels(again)
    assert "\n" not in str(told.value)


def test_damaged_committed_scores_are_taken_from_git(profile):
    (profile.workspace.results / "predictions.csv.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"predictions.csv.gz: no gzipped CSV .*: take it from git again"):
        store.load_predictions(profile)


def test_a_damaged_committed_table_is_named_with_the_remedy(profile):
    path = profile.workspace.results / "runs.csv"
    whole = path.read_text()
    named = whole.replace("trained-xception-s0,trained,xception,0", "trained-xception-s0,trained,xception,none")
    for damage, said in ((b"a,b\n1,2\n", "no column experiment, run"), (b"\xff\xfe\x00garbage", "no CSV"), (b"", "no CSV"),
                         (named.encode(), "other than numbers in the column seed")):  # fmt: skip
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=rf"runs.csv: {said}.*: take it from git again") as told:
            store.load_runs(profile)
        assert "\n" not in str(told.value)
    path.write_text(whole)
    (path.parent / "repeats.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="repeats.csv: no column cpu, precision"):
        store.load_measured(profile)


def flipped(table):
    return table.assign(score=[1 - table["score"].iloc[0], *table["score"].iloc[1:]])


def without_ten_fakes(table):
    return table.drop(table[(table["label"] == 1) & (table["run"] == "trained-xception-s1")].index[:10])


def relabelled(table):
    return table.assign(split=table["split"].where(table["run"] != "trained-xception-s1", "val"))


def without_a_run(table):
    return table[table["run"] != "trained-xception-s1"]


@pytest.mark.parametrize("edit", [flipped, without_ten_fakes, relabelled, without_a_run])
def test_scores_that_were_edited_or_lost_are_refused(profile, edit):
    path = profile.workspace.results / store.TABLES["predictions"].file
    table = store.load_committed(profile, "predictions")
    write_scores(path, table.sample(frac=1, random_state=0))
    assert len(store.load_committed(profile, "predictions")) == len(table)  # their order is free
    write_scores(path, edit(table))
    with pytest.raises(ValueError, match=r"predictions.csv.gz: scores of .* (missing|not all there): take both tables"):
        store.load_predictions(profile)
