"""What a split keeps together: who is dealt where, that the unseen are unseen, and the tables of known scores."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fake_faces import make_faces, small_network, tiny_profile
from test_study_run import git, older

from utils.config import SPLIT_RULES, SplitRulesConfig
from utils.faces.splits import deal
from utils.learn import checkpoints
from utils.learn import split_rules as ours
from utils.paths import ROOT, SPLIT_RULES_PROTOCOL, SPLIT_RULES_SCORES
from utils.results import practice_plots
from utils.results import split_rules as results
from utils.run import split_rules as run

NUMBERS = SplitRulesConfig(people=20, steps=2, seeds=(0, 1))


@pytest.fixture
def faces():
    return make_faces(train=12, val=1, test=4, frames=3)


@pytest.fixture
def profile(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    tiny = tiny_profile(tmp_path / "work")
    tiny = replace(tiny, train=replace(tiny.train, precision="fp32", scorer="torch"))
    for module in (ours, run):
        monkeypatch.setattr(module, "SplitRulesConfig", lambda: NUMBERS)
    monkeypatch.setattr(ours, "create_model", lambda name, config, seed: small_network(seed=seed, px=16))
    monkeypatch.setattr(checkpoints, "create_model", lambda name, config, seed=0: small_network(px=16))
    monkeypatch.setattr(ours, "get_profile", lambda name: tiny)
    return ours.rules_profile()


def test_groups_are_dealt_whole_in_the_shares_asked_for():
    index = pd.DataFrame({"who": np.repeat(list("abcdefghij"), 3), "what": range(30)})
    part = deal(index, ("who",), (0.6, 0.2), seed=3)
    by_group = pd.Series(part).groupby(index["who"])
    assert (by_group.nunique() == 1).all() and by_group.first().value_counts().to_dict() == {0: 6, 1: 2, -1: 2}
    assert (deal(index, ("who",), (0.6, 0.2), seed=3) == part).all() and (deal(index, ("who",), (0.6, 0.2), 4) != part).any()
    assert sorted(deal(index, ("who", "what"), (0.5, 0.5), 0)) == [0] * 15 + [1] * 15


def test_each_rule_keeps_together_what_it_says_and_nothing_more(profile, faces):
    shared = {}
    for rule, columns in SPLIT_RULES.items():
        mine = ours.dealt(faces, rule, 0)
        train, val = (mine.index[mine.index["split"] == part] for part in ("train", "val"))
        assert set(mine.index["quality"]) == {"c40"} and len(mine.pairs) <= NUMBERS.people // 2
        assert set(mine.pairs) <= faces.select(split="train").pairs
        both = {name: set(map(tuple, train[list(key)].to_numpy())) & set(map(tuple, val[list(key)].to_numpy()))
                for name, key in SPLIT_RULES.items()}  # fmt: skip
        assert not both[rule] and len(columns)
        shared[rule] = {name for name, found in both.items() if found}
        assert len(train) == 3 * len(val)
        for part in (train, val):  # both classes, of different people
            reals, fakes = (part[part["label"] == label] for label in (0, 1))
            assert len(reals) == len(fakes) and not set(reals["pair"]) & set(fakes["pair"])
    assert shared == {"frames": {"videos", "pairs"}, "videos": {"pairs"}, "pairs": set()}
    with pytest.raises(ValueError, match="unknown rule 'people'"):
        ours.dealt(faces, "people", 0)
    with pytest.raises(ValueError, match="20 people are asked of the split 'train', it has 4"):
        ours.dealt(make_faces(train=2), "frames", 0)


def test_networks_are_trained_scored_and_gathered_once(profile, faces, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "load_faces", lambda profile: faces)
    monkeypatch.setattr(run, "in_processes", lambda jobs, calls, told: [told(call[0](*call[1])) for call in calls])
    monkeypatch.setattr(run, "SPLIT_RULES_SCORES", tmp_path / "scores.csv.gz")
    monkeypatch.setattr(run, "require_protocol", lambda tables, protocol: "f00d")
    run.main(["--jobs", "1"])
    assert not (tmp_path / "scores.csv.gz").is_file()  # training alone scores nobody
    assert not list(profile.workspace.runs.rglob(run.SCORES))
    run.main(["--score", "--jobs", "1"])
    with monkeypatch.context() as patch:  # a scoring that was killed reads what is there
        patch.setattr(ours, "predict_faces", lambda *given: pytest.fail("scored again"))
        run.run_all((0, 1), 1, score=True)
    scores = results.load_scores(tmp_path / "scores.csv.gz")
    assert set(scores["phase"]) == set(SPLIT_RULES) and set(scores["seed"]) == {0, 1} and set(scores["protocol"]) == {"f00d"}
    learned = faces.select(split="train").pairs
    for (rule, split), part in scores.groupby(["phase", "split"]):
        people = {video[:3] for video in part["video_id"]}
        known = {one for pair in learned for one in pair.split("_")}
        assert people <= known if split == "val" else not people & known, rule
    with pytest.raises(SystemExit):
        run.main(["--score", "--seeds", "0"])
    assert "all seeds are scored together" in capsys.readouterr().err


def scored(kept: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Return scores of which so large a share is right: rule -> (validation, unseen)."""
    rows = []
    for rule, shares in kept.items():
        for seed in (0, 1):
            for split, share, first in zip(("val", "test"), shares, (0, 100), strict=True):
                for number in range(first, first + 40, 2):
                    a, b = f"{number:03d}", f"{number + 1:03d}"
                    for label, video in ((0, a), (0, b), (1, f"{a}_{b}"), (1, f"{b}_{a}")):
                        for frame in range(5):
                            right = (frame + number // 2) % 5 < round(5 * share)
                            rows.append((f"{rule}-s{seed}", "m", rule, seed, "x", split, "c40", video, frame, label,
                                         0.8 if right == bool(label) else 0.2))  # fmt: skip
    columns = ["run", "model", "phase", "seed", "method", "split", "quality", "video_id", "frame", "label", "score"]
    return pd.DataFrame(rows, columns=columns)


def test_the_tables_say_what_was_promised_what_was_found_and_what_was_lost(tmp_path, monkeypatch):
    given = scored({"frames": (1.0, 0.6), "videos": (0.8, 0.6), "pairs": (0.6, 0.6)}).assign(protocol="f00d")
    path = tmp_path / "scores.csv.gz"
    given.to_csv(path, index=False)
    made = results.tables(200, path)
    rules = made["split_rules"].set_index(["rule", "metric", "measure"])["value"]
    assert rules["frames", "accuracy", "validation"] == pytest.approx(1)
    assert rules["pairs", "accuracy", "loss"] == pytest.approx(0)
    assert rules["frames", "accuracy", "loss"] == pytest.approx(0.4)
    gaps = made["split_rules_gaps"].set_index(["rule", "metric", "measure"])
    assert gaps.loc[("videos", "accuracy", "loss"), "value"] == pytest.approx(0.2)
    assert set(made["split_rules_gaps"]["rule"]) == {"frames", "videos"}
    assert (made["split_rules"]["lo"] <= made["split_rules"]["value"]).all()
    assert practice_plots.split_rules(made, "made up") is not None and practice_plots.split_rules({}, "none") is None
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="scores.csv.gz"):
        results.load_scores(path)
    given.assign(phase="people").to_csv(path, index=False)
    with pytest.raises(ValueError, match="unknown rules: take it from git"):
        results.load_scores(path)
    assert results.tables(20, tmp_path / "nothing.csv.gz") == {}


def test_the_protocol_says_the_numbers_of_the_code():
    text, numbers, profile = SPLIT_RULES_PROTOCOL.read_text(), SplitRulesConfig(), ours.rules_profile()
    model = profile.model(profile.student_model)
    rows = dict(re.findall(r"^\| ([\w ]+) \| ([\w.]+) \|$", text, re.MULTILINE))
    assert rows.pop("number") == "value" and rows == {
        "people": str(numbers.people), "train": str(numbers.train), "val": str(numbers.val), "quality": numbers.quality,
        "steps": str(numbers.steps), "seeds": str(len(numbers.seeds)), "px": str(model.px), "batch_size": str(model.batch_size),
        "precision": profile.train.precision, "keep": profile.train.keep,
    }  # fmt: skip


def test_the_protocol_is_older_than_the_committed_scores():
    if not SPLIT_RULES_SCORES.is_file() or git(ROOT, "rev-parse", "--is-shallow-repository").strip() != "false":
        pytest.skip("needs the committed scores and the repository's whole history")
    (commit,) = results.load_scores()["protocol"].unique()
    assert older(ROOT, commit, SPLIT_RULES_SCORES.relative_to(ROOT).as_posix())
    assert git(ROOT, "log", "-1", "--format=%H", "--", SPLIT_RULES_PROTOCOL.relative_to(ROOT).as_posix()).strip() == commit
