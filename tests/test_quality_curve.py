"""The quality curve: what is scored, thresholds from validation alone, and the tables and figures of known scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fake_faces import tiny_profile
from mock_predictions import make_run

from utils.config import CRF, CURVE, ENCODINGS, get_profile
from utils.learn.scores import COLUMNS, write_scores
from utils.results import practice_plots
from utils.results import quality_curve as results
from utils.run import quality_curve as run

KBITS = {"c23": 400.0, "c40": 60.0, "crf50": 20.0, "vp9": 50.0, "half": 30.0}
SHIFT = {"c23": 4.0, "c40": 1.5, "crf50": 0.0, "vp9": 2.0, "half": 1.0}  # between the log odds of fakes and reals


def scores(pairs=30, seeds=2) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for phase in ("trained", "oracle"):
        for split, first, qualities in (("val", 0, CRF), ("test", 200, KBITS)):
            for number in range(first, first + 2 * pairs, 2):
                a, b = f"{number:03d}", f"{number + 1:03d}"
                for label, video in ((0, a), (0, b), (1, f"{a}_{b}"), (1, f"{b}_{a}")):
                    for quality in qualities:
                        for seed in range(seeds):
                            p = 1 / (1 + np.exp(-(label - 0.5) * SHIFT[quality] - rng.normal()))
                            rows.append((f"{phase}-s{seed}", "resnet18", phase, seed, "x", split, quality, video, label,
                                         f"{a}_{b}", 6, p))  # fmt: skip
    return pd.DataFrame(rows, columns=list(results.COLUMNS))


@pytest.fixture
def folder(tmp_path):
    scores().to_csv(tmp_path / results.SCORES, index=False)
    videos = pd.DataFrame({"quality": list(KBITS), "clips": 120, "kbits": list(KBITS.values()), "found": 0.9})
    videos.to_csv(tmp_path / results.VIDEOS, index=False)
    return tmp_path


def test_auc_falls_with_the_bit_rate_to_chance_which_is_named(folder):
    table = results.tables(200, folder)["quality_curve"]
    mine = table[table["phase"] == "oracle"].set_index("quality")
    assert list(mine.index) == sorted(KBITS, key=KBITS.get, reverse=True)
    assert mine.loc["c23", "value"] > 0.98 > mine.loc["c40", "value"] > 0.75
    assert mine["chance"].to_dict() == {"c23": False, "c40": False, "vp9": False, "half": False, "crf50": True}
    codecs = {"c23": "H.264", "c40": "H.264", "crf50": "H.264", "vp9": "VP9", "half": "H.264, half size"}
    assert mine["codec"].to_dict() == codecs
    assert list(dict.fromkeys(table["phase"])) == ["trained", "oracle"]  # in the order of PHASES


def test_the_threshold_is_validations_and_the_same_at_every_quality(folder):
    given = scores()
    table = results.alarms_table(given, pd.read_csv(folder / results.VIDEOS), 200)
    reals = given[(given["split"] == "val") & (given["label"] == 0) & (given["phase"] == "oracle")]
    by_seed = reals.groupby("seed")["score"]
    thresholds = {seed: min(one for one in mine if (mine > one).mean() <= 0.05) for seed, mine in by_seed}
    part = given[(given["phase"] == "oracle") & (given["split"] == "test") & (given["quality"] == "crf50")]
    flagged = part["score"] > part["seed"].map(thresholds)
    row = table.query("phase == 'oracle' and alarms == 0.05 and quality == 'crf50'").iloc[0]
    assert row["tpr"] == pytest.approx(flagged[part["label"] == 1].mean())
    assert row["fpr"] == pytest.approx(flagged[part["label"] == 0].mean())
    changed = given.assign(score=given["score"].where(given["split"] == "val", 0.5))  # other test scores
    again = results.alarms_table(changed, pd.read_csv(folder / results.VIDEOS), 20)
    assert set(again["tpr"]) <= {0.0, 1.0} and len(again) == len(table)


def test_figures_are_drawn_and_left_out_where_there_is_nothing(folder):
    made = results.tables(50, folder)
    for name in ("quality_curve", "quality_alarms"):
        assert practice_plots.PRACTICE_FIGURES[name](made, "made up") is not None
        assert practice_plots.PRACTICE_FIGURES[name]({}, "none") is None


@pytest.mark.parametrize(("change", "message"), [
    (lambda table: table.drop(columns="pair"), "other columns"),
    (lambda table: table.assign(quality="c99"), "an unknown quality"),
    (lambda table: table.assign(score=2.0), r"scores outside \[0, 1\]"),
    (lambda table: pd.concat([table, table.iloc[:1]]), "a clip that is scored twice"),
])  # fmt: skip
def test_damaged_scores_are_named(folder, change, message):
    path = folder / results.SCORES
    change(scores(pairs=2)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=f"scores.csv.gz: {message}: take it from git"):
        results.load_scores(folder)
    path.write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(ValueError, match="scores.csv.gz: no gzipped CSV"):
        results.load_scores(folder)
    path.unlink()
    assert results.tables(20, folder) == {}


def test_the_curve_has_rates_sizes_codecs_and_two_generations_of_one_rate():
    profile = get_profile("curve")
    assert set(profile.data.qualities) == set(CURVE) and profile.data.splits == ("test",)
    assert profile.faces == get_profile("repeat").faces  # or the two could not stand in one figure
    hows = [ENCODINGS[quality] for quality in CURVE]
    assert {how.scale for how in hows} == {1.0, 0.5, 0.25} and {how.codec for how in hows} >= {"libx265", "libvpx-vp9"}
    twice = [how for how in hows if how.times == 2]
    assert all(any((how.crf, how.scale, how.times) == (one.crf, one.scale, 1) for how in hows) for one in twice)


def test_without_networks_or_faces_one_line_says_what_to_run(tmp_path, monkeypatch, capsys):
    nothing = pd.DataFrame({"experiment": [], "phase": [], "run": []})
    monkeypatch.setattr(run.store, "load_own", lambda profile, name: nothing)
    with pytest.raises(SystemExit) as ended:
        run.main([])
    assert ended.value.code == 2 and "no finished run of repeat: run `python -m utils.run.grid" in capsys.readouterr().err


def test_a_table_has_validation_and_test_as_they_were_scored_and_test_along_the_curve(tmp_path):
    profile = tiny_profile(tmp_path)
    given, along = {}, {}
    for seed in (0, 1):
        one = make_run("resnet18", seed=seed, n_pairs=3)
        given[seed] = one
        along[seed] = one[(one["split"] == "test") & (one["quality"] == "c40")].assign(quality="vp9", score=0.25)
        folder = profile.workspace.runs / one["run"].iloc[0]
        write_scores(folder / "scores.csv.gz", one[list(COLUMNS)])
        write_scores(folder / run.FILE, along[seed][list(COLUMNS)])
    runs = pd.DataFrame({"run": [one["run"].iloc[0] for one in given.values()]})
    table = run.scores_table(profile, runs)
    assert tuple(table.columns) == results.COLUMNS and set(table["split"]) == {"val", "test"}
    assert not table.duplicated(["run", "split", "quality", "video_id"]).any()
    qualities = table.groupby("split")["quality"].unique().map(set).to_dict()
    assert qualities == {"val": {"c23", "c40"}, "test": {"c23", "c40", "vp9"}}
    assert (table.loc[table["quality"] == "vp9", "score"] == 0.25).all() and set(table["run"]) == set(runs["run"])
    clip = given[1].query("split == 'val' and quality == 'c40'")
    clip = clip[clip["video_id"] == clip["video_id"].iloc[0]]
    row = table.merge(clip[["run", "quality", "video_id"]].drop_duplicates())
    assert row["score"].item() == pytest.approx(clip["score"].mean(), abs=1e-5) and row["faces"].item() == len(clip)
    a, b = row["pair"].item().split("_")
    assert int(b) == int(a) + 1 and row["video_id"].item()[:3] in (a, b)
