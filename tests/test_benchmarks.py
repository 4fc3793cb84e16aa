"""The benchmarks run on a small profile, without faces of their own, and go on where they stopped."""

from __future__ import annotations

import importlib
import sys

import pandas as pd
import pytest
import torch

from utils.config import ModelConfig, get_profile
from utils.paths import ROOT

SMALL = ["--profile", "smoke", "--models", "resnet18", "--rounds", "1"]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a benchmark and return its table."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    loops = importlib.import_module("loops")

    def no_faces(profile):
        raise FileNotFoundError

    monkeypatch.setattr(loops, "load_faces", no_faces)

    def benchmark(name: str, *options: str) -> pd.DataFrame:
        monkeypatch.setattr(sys, "argv", [name, "--csv", str(tmp_path / "table.csv"), *options])
        importlib.import_module(name).main()
        return pd.read_csv(tmp_path / "table.csv")

    return benchmark


def test_speed_is_told_beside_the_noise_and_the_machines_own_rate(run):
    (row,) = run("training", *SMALL).to_dict("records")
    assert row["ours / plain"] == pytest.approx(row["ours"] / row["plain"], rel=1e-3)
    assert row["again / plain"] == pytest.approx(row["plain again"] / row["plain"], rel=1e-3)
    assert 0 < row["plain: of matrix rate"] < 1.5 and row["plain: faults"] >= 0


def test_operations_are_counted_with_groups(run):
    training = importlib.import_module("training")
    for name, published in (("resnet18", 1.81), ("efficientnet-lite0", 0.39)):  # 10^9 multiplications and additions at 224 px
        assert training.step_gflops(name, ModelConfig(px=224)) == pytest.approx(3 * 2 * published, rel=0.03)


@pytest.mark.slow
def test_time_to_an_auc_resumes_and_is_that_of_the_first_evaluation_that_reaches_it(run, monkeypatch, tmp_path):
    options = ["--to-auc", *SMALL[:4], "--every", "2", "--loops", "plain", "ours", "--seeds"]
    summary = run("training", *options, "0")
    assert list(summary["loop"]) == ["plain", "ours"] and (summary["seeds"] == 1).all() and summary.loc[0, "gain"] == 1
    first = pd.read_csv(tmp_path / "table_runs.csv")
    assert list(first["loop"]) == ["plain", "ours"] and (first["steps"] == 4).all()
    training = importlib.import_module("training")
    monkeypatch.setattr(training, "run_of", None)  # nothing is left to run
    pd.testing.assert_frame_equal(run("training", *options, "0"), summary)
    assert training.seconds_to([(2, 1.0, 0.6), (4, 2.0, 0.8), (6, 3.0, 0.7)], 0.7) == 2.0
    assert training.seconds_to([(2, 1.0, 0.6)], 0.7) == float("inf")
    table = training.summary(first)
    assert table["target"].nunique() == 1 and table.loc[0, "gain"] == 1 and table.loc[0, "seconds"] <= first.loc[0, "seconds"]


@pytest.mark.slow
def test_scores_are_compared_in_turns(run):
    table = run("scoring", *SMALL, "--faces", "32").set_index("way")
    assert not table["real crops"].any() and (table["ratio"] > 0).all()
    assert table.loc["openvino fp32", "P apart"] < 1e-4 and table.loc["openvino fp32", "flipped"] == 0


def test_the_instrument_is_timed_on_one_person_and_on_two(run, monkeypatch):
    instrument = importlib.import_module("instrument")
    monkeypatch.setattr(instrument, "CLIPS", {(640, 360): (1, 2)})
    table = run("instrument", "--rounds", "1", "--seconds", "0.6")
    assert table["what"].tolist() == ["verdicts", "verdicts and files"] * 2
    assert table["people"].tolist() == [1, 1, 2, 2] and table["faces"].tolist() == [3, 3, 6, 6]
    assert set(table["size"]) == {"640x360"} and set(table["pictures"]) == {3} and set(table["every"]) == {5}
    assert table["times_real_time"].to_numpy() == pytest.approx((0.6 / table["seconds"]).to_numpy(), rel=1e-2)
    assert (table["cpu_seconds"] > 0).all() and (table["threads"] == 1).all() and table["commit"].str.len().ge(40).all()


def test_without_a_gpu_the_benchmark_says_why_it_skips(run, capsys):
    if torch.cuda.is_available():
        pytest.skip("a GPU is at hand")
    with pytest.raises(SystemExit) as left:
        run("training", "--device", "cuda")
    assert left.value.code == 0 and "skipped: no CUDA device" in capsys.readouterr().err


def test_the_wait_for_data_is_measured_where_the_loop_runs(run):
    training = importlib.import_module("training")
    row = training.on_gpu("resnet18", 1, get_profile("smoke"))
    assert 0 <= row["waits"] < 1 and row["images/s"] > 0 and not row["real crops"]
