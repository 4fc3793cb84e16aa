"""Figures: all are drawn from whatever runs are there, show the right numbers and come out byte for byte the same."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from mock_predictions import make_predictions, make_run
from test_report import profile_in

from utils.config import ARMS, NETWORKS, PHASES
from utils.results import metrics, plots, style, tables
from utils.results.report import Results

NAMED = [*PHASES, *ARMS]  # phases that figures show


@pytest.fixture(scope="module")
def predictions():
    return make_predictions(models=("xception", "efficientnet-lite0"), hard_pairs=4)


@pytest.fixture(scope="module")
def evaluation(predictions):
    return metrics.evaluate(predictions, resamples=50)


def draw_all(folder, predictions, evaluation):
    return style.write_figures(Results(profile_in(folder), predictions, evaluation, None, pd.DataFrame()).figures(), folder)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_files_are_byte_stable_and_whole(tmp_path, predictions, evaluation, suffix):
    for name in ("first", "second"):
        fig = plots.roc_by_quality(predictions, evaluation, "SynthFF")
        style.save_figure(fig, tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2  # no temporary file stays


def test_a_notebook_draws_some_and_keeps_them_open(tmp_path, predictions, evaluation):
    draws = Results(profile_in(tmp_path), predictions, evaluation, None, pd.DataFrame()).figures()
    fig = draws["roc_by_quality"]()
    assert plt.get_fignums() == [fig.number] and len(fig.axes) == 2 and not list(tmp_path.iterdir())


def test_a_failed_save_leaves_nothing_behind(tmp_path):
    class Broken:
        def savefig(self, path, **_):
            path.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError):
        style.save_figure(Broken(), tmp_path / "figure.svg")
    assert not list(tmp_path.iterdir())


def test_every_figure_is_written(tmp_path, predictions, evaluation):
    written = draw_all(tmp_path, predictions, evaluation)
    assert set(written) == set(plots.RESULT_FIGURES) and not plt.get_fignums()
    assert all(path.stat().st_size > 2000 for path in written.values())


@pytest.mark.parametrize("phase", ["trained", "oracle", "noisy_trained"])
def test_one_run_is_enough(tmp_path, phase):
    predictions = make_run("efficientnet-b0", phase, n_pairs=3)
    written = draw_all(tmp_path, predictions, metrics.evaluate(predictions, 20))
    assert ("roc_by_quality" in written) == (phase != "oracle")
    assert "validation_minus_test" in written and "robustness" not in written  # this run has no harder videos


def test_only_one_figure_knows_the_harder_videos(tmp_path, predictions, evaluation):
    easy = predictions[predictions["split"] != "test_hard"]
    with_hard = draw_all(tmp_path / "with", predictions, evaluation)
    without = draw_all(tmp_path / "without", easy, metrics.evaluate(easy, 50))
    assert set(with_hard) - set(without) == {"robustness"}
    assert all(with_hard[name].read_bytes() == path.read_bytes() for name, path in without.items())


def test_robustness_shows_each_method_on_test_and_on_test_hard(predictions, evaluation):
    fig = plots.robustness(predictions, evaluation, "SynthFF")
    assert [ax.get_title() for ax in fig.axes] == ["SynthFF, c23, videos", "SynthFF, c40, videos"]
    ends = metrics.hard_against_test(evaluation).query("phase in @NAMED").groupby("quality")
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]  # both panels share them
    assert labels[-1] == "Xception, trained" and labels[0] == "EfficientNet-Lite0, oracle: all labels"
    for ax, (quality, part) in zip(fig.axes, ends, strict=True):
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        for line, split in zip(dots, ("test", "test_hard"), strict=True):
            table = metrics.by_method(evaluation, split=split)
            rows = table[(table["quality"] == quality) & table["phase"].isin(NAMED)].itertuples()
            shown = dict(zip([labels[round(y)] for y in line.get_ydata()], line.get_xdata(), strict=True))
            assert shown == pytest.approx({style.method_label(row): row.value for row in rows}) and len(shown) == 12
        lines = [path.vertices[:, 0] for lines in ax.collections for path in lines.get_paths()]
        expected = np.vstack([part[["test_lo", "test_hi"]], part[["hard_lo", "hard_hi"]]])
        np.testing.assert_allclose(sorted(map(tuple, lines)), sorted(map(tuple, expected)))


def test_every_network_and_every_arm_has_a_name_and_a_color():
    assert set(style.MODELS) == set(style.COLORS) == set(NETWORKS)
    assert set(style.ARM_COLORS) == {*ARMS, "control"} <= set(style.LABELS)


def test_roc_curves_enclose_their_auc(predictions, evaluation):
    fig = plots.roc_by_quality(predictions, evaluation, "SynthFF")
    table = tables.one_run_a_model(evaluation).query("level == 'video'")
    assert [ax.get_title() for ax in fig.axes] == ["SynthFF, c23, test videos", "SynthFF, c40, test videos"]
    for ax, quality in zip(fig.axes, ("c23", "c40"), strict=True):
        rows = table[table["quality"] == quality]
        for line, auc in zip(ax.lines, rows["auc"], strict=False):
            assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(auc)


def test_each_model_is_shown_in_the_phase_that_validated_best(evaluation):
    table = evaluation.table.query("split == 'val' and level == 'frame' and phase in @PHASES")
    expected = {}
    for model in ("xception", "efficientnet-lite0"):
        runs = {run: part["auc"].mean() for run, part in table[table["model"] == model].groupby("run")}
        expected[model] = max(runs, key=runs.get)
    shown = tables.one_run_a_model(evaluation)
    assert (shown["split"] == "test").all() and dict(zip(shown["model"], shown["run"], strict=True)) == expected


def test_gaps_hold_the_original_and_our_cases(evaluation):
    gaps = tables.accuracy_gaps(evaluation, "SynthFF")
    assert gaps["group"].value_counts().to_dict() == {"original, FF++": 18, "SynthFF, c23": 6, "SynthFF, c40": 6}
    original = tables.load_original()
    assert gaps["gap"][:18].tolist() == (original["val_acc_all"] - original["test_acc_all"]).tolist()
    row = evaluation.table.query("run == 'trained-xception-s0' and quality == 'c40' and level == 'frame'")
    row = row.set_index("split")["accuracy_half"]
    ours = gaps.query("group == 'SynthFF, c40' and phase == 'trained' and model == 'xception'")["gap"].item()
    assert ours == pytest.approx(100 * (row["val"] - row["test"]))
    holds = ~((gaps["lo"] > 0) | (gaps["hi"] < 0)) & gaps["lo"].notna()  # the original gave no interval
    assert gaps["holds_zero"].equals(holds) and holds.any()


def test_learning_curves_show_each_run():
    log = pd.DataFrame({"step": [50, 100], "loss": [0.7, 0.5], "val_auc": [0.6, 0.7]})
    runs = pd.DataFrame([("a", "teacher_c40", "efficientnet-lite0"), ("b", "student_classic_it1", "efficientnet-lite0"),
                         ("c", "post_trained", "xception")], columns=["run", "phase", "model"])  # fmt: skip
    fig = plots.learning_curves({run: log for run in "abc"}, runs, "SynthFF")
    assert [len(ax.lines) for ax in fig.axes] == [3, 4]  # chance beside the AUCs
    teacher, student, network = fig.axes[0].lines
    assert (teacher.get_color(), student.get_color()) == (style.ARM_COLORS["teacher_c40"], style.ARM_COLORS["student_classic"])
    assert network.get_color() == style.COLORS["xception"] and network.get_linestyle() == "--"
    assert student.get_label() == "EfficientNet-Lite0, student, classic noise, iteration 1"


def test_figures_need_no_torch():
    import subprocess

    code = "import sys, utils.results.metrics, utils.results.plots; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
