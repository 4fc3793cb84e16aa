"""The vectorised metrics against literal loops and scikit-learn."""

import time

import numpy as np
import pandas as pd
import pytest
from mock_predictions import make_predictions, make_run, write_predictions
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, recall_score, roc_auc_score, roc_curve
from test_report import profile_in

from utils.results import metrics, store


def slow_auc(labels, scores):
    fakes = [s for s, y in zip(scores, labels, strict=True) if y == 1]
    reals = [s for s, y in zip(scores, labels, strict=True) if y == 0]
    return sum((f > r) + 0.5 * (f == r) for f in fakes for r in reals) / (len(fakes) * len(reals))


def slow_eer(labels, scores):
    """Walk along the ROC curve until misses fall below false alarms; join the two points by a straight line."""
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    for k in range(1, len(fpr)):
        if 1 - tpr[k] <= fpr[k]:
            before, after = (1 - tpr[k - 1]) - fpr[k - 1], (1 - tpr[k]) - fpr[k]
            return fpr[k - 1] + before / (before - after) * (fpr[k] - fpr[k - 1])


def slow_bootstrap(part, pair_of, threshold, weights):
    """Literally repeat the rows of each drawn pair and measure the repeated table."""
    names = sorted(set(pair_of.values()) & set(part["video_id"].map(pair_of)))
    values = []
    for row in weights:
        drawn = [name for name, times in zip(names, row, strict=True) for _ in range(int(times))]
        table = pd.concat([part[part["video_id"].map(pair_of) == name] for name in drawn])
        values.append(slow_metrics(table["label"].to_numpy(), table["score"].to_numpy(), threshold))
    return pd.DataFrame(values)


def slow_metrics(labels, scores, threshold):
    decided = (scores >= threshold).astype(int)
    return {
        "accuracy": accuracy_score(labels, decided),
        "accuracy_real": recall_score(labels, decided, pos_label=0),
        "accuracy_fake": recall_score(labels, decided, pos_label=1),
        "balanced_accuracy": balanced_accuracy_score(labels, decided),
        "accuracy_half": accuracy_score(labels, scores >= 0.5),
        "accuracy_half_real": recall_score(labels, scores >= 0.5, pos_label=0),
        "accuracy_half_fake": recall_score(labels, scores >= 0.5, pos_label=1),
        "auc": roc_auc_score(labels, scores),
        "eer": slow_eer(labels, scores),
        "log_loss": log_loss(labels, np.clip(scores, 1e-6, 1 - 1e-6)),
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("decimals", [1, 6])  # one decimal: many ties
def test_metrics_equal_the_literal_versions(seed, decimals):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 60)
    scores = np.round(np.clip(rng.normal(0.5 + 0.1 * labels, 0.3), 0, 1), decimals)
    got = metrics.measure(labels, scores, threshold=0.4)
    expected = slow_metrics(labels, scores, 0.4)
    assert set(got) == set(expected) == set(metrics.METRICS)
    for name, value in expected.items():
        assert got[name].shape == (1,)
        assert got[name][0] == pytest.approx(value, abs=1e-9), name
    assert got["auc"][0] == pytest.approx(slow_auc(labels, scores), abs=1e-12)


def test_metrics_at_the_extremes():
    labels = np.array([0, 0, 1, 1])
    perfect = metrics.measure(labels, np.array([0.0, 0.1, 0.9, 1.0]), 0.5)
    assert (perfect["auc"][0], perfect["eer"][0], perfect["accuracy"][0]) == (1, 0, 1)
    wrong = metrics.measure(labels, np.array([0.9, 1.0, 0.0, 0.1]), 0.5)
    assert (wrong["auc"][0], wrong["eer"][0], wrong["accuracy"][0]) == (0, 1, 0)
    blind = metrics.measure(labels, np.full(4, 0.3), 0.5)
    assert (blind["auc"][0], blind["eer"][0], blind["balanced_accuracy"][0]) == (0.5, 0.5, 0.5)
    assert np.isfinite(wrong["log_loss"][0])


@pytest.mark.parametrize("level", metrics.LEVELS)
def test_bootstrap_equals_a_literal_loop(level):
    part = metrics.at_level(make_run(n_pairs=6), level)
    part = part[(part["split"] == "test") & (part["quality"] == "c40")]
    pair_of = metrics.identity_pairs(part["video_id"].tolist())
    names, groups = np.unique(part["video_id"].map(pair_of).to_numpy(dtype=str), return_inverse=True)
    weights = metrics.resample_pairs(len(names), 40, seed=3)
    fast = metrics.measure(part["label"], part["score"], 0.55, groups, weights)
    slow = slow_bootstrap(part, pair_of, 0.55, weights)
    for name in metrics.METRICS:
        np.testing.assert_allclose(fast[name], slow[name], atol=1e-9, err_msg=name)


def test_a_resample_without_a_class_is_nan_not_a_crash():
    values = metrics.measure([0, 1], [0.2, 0.8], 0.5, np.array([0, 1]), np.array([[1, 1], [2, 0]]))
    assert values["auc"][0] == 1 and np.isnan(values["auc"][1]) and np.isnan(values["eer"][1])
    assert metrics.interval(values["auc"]) == (1, 1)


def test_long_bootstraps_are_cut_into_chunks(monkeypatch):
    run = make_run(n_pairs=5)
    whole = metrics.evaluate(run, resamples=50)
    monkeypatch.setattr(metrics, "CHUNK", 100)
    pd.testing.assert_frame_equal(whole.table, metrics.evaluate(run, resamples=50).table)


def test_2000_resamples_take_under_a_second():
    run = make_run(n_pairs=70, n_frames=10)  # as many test videos as FaceForensics++
    part = metrics.video_scores(run[(run["split"] == "test") & (run["quality"] == "c40")])
    pair_of = metrics.identity_pairs(part["video_id"].tolist())
    groups = np.unique(part["video_id"].map(pair_of).to_numpy(dtype=str), return_inverse=True)[1]
    start = time.process_time()
    metrics.measure(part["label"], part["score"], 0.5, groups, metrics.resample_pairs(70, 2000))
    assert time.process_time() - start < 1


def test_resamples_draw_pairs_with_replacement_and_repeat_by_seed():
    weights = metrics.resample_pairs(9, 500, seed=1)
    assert weights.shape == (500, 9) and (weights.sum(axis=1) == 9).all() and (weights == 0).any()
    np.testing.assert_array_equal(weights, metrics.resample_pairs(9, 500, seed=1))
    assert not np.array_equal(weights, metrics.resample_pairs(9, 500, seed=2))


@pytest.mark.parametrize("seed", range(5))
def test_threshold_has_the_greatest_balanced_accuracy(seed):
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 2, 30)]
    scores = np.round(rng.normal(0.5 + 0.2 * labels, 0.2), 2)
    reached = balanced_accuracy_score(labels, scores >= metrics.choose_threshold(labels, scores))
    best = max(balanced_accuracy_score(labels, scores >= t) for t in [*scores, 2])
    assert reached == pytest.approx(best)


def test_threshold_ties_go_to_the_middle():
    assert metrics.choose_threshold(np.array([0, 1]), np.array([0.1, 0.7])) == pytest.approx(0.4)
    assert metrics.choose_threshold(np.array([0, 1]), np.array([0.3, 0.3])) == 0.5
    tied = np.array([0, 1, 0, 1])
    assert metrics.choose_threshold(tied, np.array([0.1, 0.3, 0.6, 0.9])) == pytest.approx(0.75)  # as good as .2
    assert metrics.choose_threshold(tied, np.array([0.1, 0.4, 0.7, 0.9])) == pytest.approx(0.25)  # as good as .8


def test_threshold_comes_from_validation_only():
    run = make_run()
    changed = run.copy()
    test = changed["split"] == "test"
    changed.loc[test, "score"] = 1 - changed.loc[test, "score"]
    first, second = metrics.evaluate(run, 20).table, metrics.evaluate(changed, 20).table
    assert (first["threshold"] == second["threshold"]).all()
    assert not np.allclose(first["auc"], second["auc"])


def test_identity_pairs_keep_both_videos_and_both_fakes_together():
    pairs = metrics.identity_pairs(["003", "001", "001_003", "003_001", "007", "004_002", "002"])
    assert {pairs[v] for v in ("003", "001", "001_003", "003_001")} == {"001_003"}
    assert pairs["004_002"] == pairs["002"] == "002_004" and pairs["007"] == "007"
    with pytest.raises(ValueError, match="identity 001 is in pairs"):
        metrics.identity_pairs(["001_002", "001_003"])


def test_video_scores_are_means_of_frames():
    run = make_run(n_pairs=2)
    videos = metrics.video_scores(run)
    one = videos.iloc[5]
    rows = run[(run[["split", "quality", "video_id"]] == one[["split", "quality", "video_id"]]).all(axis=1)]
    assert one["score"] == pytest.approx(sum(rows["score"]) / len(rows)) and one["frames"] == len(rows)
    with pytest.raises(ValueError, match="unknown level"):
        metrics.at_level(run, "clip")


def test_evaluation_states_class_balance_and_brackets_its_estimates():
    predictions = make_predictions(models=("xception",), teachers=False)
    evaluation = metrics.evaluate(predictions, resamples=200)
    table = evaluation.table
    assert len(table) == 4 * 2 * 2 * 2  # phases and the teacher of one, splits, qualities, levels
    video, frame = table[table["level"] == "video"], table[table["level"] == "frame"]
    assert (video["n_real"] == 16).all() and (video["n_fake"] == 16).all() and (frame["n_real"] == 64).all()
    assert (table["n_pairs"] == 8).all()
    for name in ("auc", "balanced_accuracy", "log_loss"):
        assert (table[f"{name}_lo"] <= table[name]).all() and (table[name] <= table[f"{name}_hi"]).all()


def test_differences_are_paired():
    predictions = make_predictions(models=("xception",), teachers=False)
    evaluation = metrics.evaluate(predictions, resamples=300)
    a, b = [(f"{phase}-xception-s0", "test", "c40", "video") for phase in ("trained", "post_trained")]
    assert metrics.difference(evaluation, [a], [a]) == {"value": 0, "lo": 0, "hi": 0}
    forth, back = metrics.difference(evaluation, [a], [b]), metrics.difference(evaluation, [b], [a])
    assert forth["value"] == pytest.approx(-back["value"]) and forth["lo"] == pytest.approx(-back["hi"])
    draws = evaluation.values[a]["auc"] - evaluation.values[b]["auc"]
    assert (forth["lo"], forth["hi"]) == pytest.approx(tuple(np.quantile(draws[1:], [0.025, 0.975])))
    with pytest.raises(ValueError, match="same identity pairs"):
        metrics.difference(evaluation, [a], [(a[0], "val", "c40", "video")])


def hard_and_test(evaluation, quality="c40", run="trained-xception-s0"):
    return [(run, split, quality, "video") for split in ("test_hard", "test")]


def test_harder_videos_are_measured_like_the_others_and_change_nothing_there():
    run = make_run(n_pairs=6, hard_pairs=4)
    evaluation = metrics.evaluate(run, 60)
    table = evaluation.table
    hard = table[table["split"] == "test_hard"]
    assert len(hard) == 4 and (hard["n_pairs"] == 4).all() and (hard.query("level == 'video'")["n_fake"] == 8).all()
    without = metrics.evaluate(run[run["split"] != "test_hard"], 60).table
    pd.testing.assert_frame_equal(table[table["split"] != "test_hard"].reset_index(drop=True), without)
    thresholds = table.pivot(index=["quality", "level"], columns="split", values="threshold")
    assert (thresholds["test_hard"] == thresholds["val"]).all()  # chosen on validation, held fixed
    part = metrics.video_scores(run[(run["split"] == "test_hard") & (run["quality"] == "c40")])
    key, _ = hard_and_test(evaluation)
    pair_of = metrics.identity_pairs(part["video_id"].tolist())
    slow = slow_bootstrap(part, pair_of, thresholds.loc[("c40", "video"), "val"], metrics.resample_pairs(4, 60))
    for name in metrics.METRICS:
        np.testing.assert_allclose(evaluation.values[key][name][1:], slow[name], atol=1e-9, err_msg=name)


def test_unpaired_differences_against_a_loop_over_all_draws():
    evaluation = metrics.evaluate(make_run(n_pairs=6, hard_pairs=4), 30)
    hard, test = hard_and_test(evaluation)
    found = metrics.unpaired_difference(evaluation, [hard], [test])
    a, b = (evaluation.values[key]["auc"] for key in (hard, test))
    every = [x - y for x in a[1:] for y in b[1:]]
    assert found["value"] == pytest.approx(a[0] - b[0])
    assert (found["lo"], found["hi"]) == pytest.approx(tuple(np.quantile(every, [0.025, 0.975])))
    assert np.var(every) == pytest.approx(np.var(a[1:]) + np.var(b[1:]))  # as of independent quantities
    back = metrics.unpaired_difference(evaluation, [test], [hard])
    assert [back[name] for name in ("value", "lo", "hi")] == pytest.approx([-found[name] for name in ("value", "hi", "lo")])


def test_unpaired_differences_do_not_match_the_draws_of_equally_many_pairs():
    """Other people with the very same scores: draw by draw the difference would be zero, and its interval a point."""
    run = make_run(n_pairs=8)
    test = run[run["split"] == "test"]
    others = test["video_id"].str.replace(r"\b0|(?<=_)0", "9", regex=True)  # 012_013 becomes 912_913
    twins = test.assign(split="test_hard", video_id=others)
    evaluation = metrics.evaluate(pd.concat([run, twins]), 400)
    hard, test = hard_and_test(evaluation)
    assert evaluation.pairs[hard][0] != evaluation.pairs[test][0]
    np.testing.assert_array_equal(evaluation.values[hard]["auc"], evaluation.values[test]["auc"])
    found = metrics.unpaired_difference(evaluation, [hard], [test])
    spread = np.std(evaluation.values[test]["auc"][1:])
    assert found["value"] == 0 and found["lo"] < -1.5 * spread and found["hi"] > 1.5 * spread


def test_the_seeds_of_unpaired_differences_are_drawn_together():
    """Two seeds that differ by much, on both sides alike: what a seed moves cancels in the difference."""
    runs = [make_run(seed=seed, n_pairs=6, hard_pairs=4) for seed in (0, 1)]
    evaluation = metrics.evaluate(pd.concat(runs), 300)
    hard, test = hard_and_test(evaluation)
    seeds = [[(f"trained-xception-s{seed}", *key[1:]) for seed in (0, 1)] for key in (hard, test)]
    for keys in seeds:
        evaluation.values[keys[1]] = evaluation.values[keys[0]] | {"auc": evaluation.values[keys[0]]["auc"] - 0.4}
    found = metrics.unpaired_difference(evaluation, *seeds)
    alone = metrics.unpaired_difference(evaluation, *([keys[0]] for keys in seeds))
    assert found["hi"] - found["lo"] == pytest.approx(alone["hi"] - alone["lo"], abs=0.05)
    with_others = metrics.unpaired_difference(evaluation, seeds[0], seeds[1][::-1])  # not seed by seed: all combinations
    assert with_others["hi"] - with_others["lo"] > found["hi"] - found["lo"] + 0.2


def test_the_seeds_are_drawn_together_of_equally_many_pairs_too():
    """Between 8 pairs and 8 others what a seed moves cancels as between 8 and 7, and the pairs are not matched."""
    widths = []
    for others in (8, 7):
        runs = pd.concat([make_run(seed=seed, n_pairs=8, hard_pairs=others) for seed in (0, 1)])
        evaluation = metrics.evaluate(runs, 400)
        hard, test = hard_and_test(evaluation)
        seeds = [[(f"trained-xception-s{seed}", *key[1:]) for seed in (0, 1)] for key in (hard, test)]
        for keys in seeds:
            evaluation.values[keys[1]] = evaluation.values[keys[0]] | {"auc": evaluation.values[keys[0]]["auc"] - 0.4}
        found = metrics.unpaired_difference(evaluation, *seeds)
        widths.append(found["hi"] - found["lo"])
    assert 0 < widths[0] == pytest.approx(widths[1], abs=0.12)


def test_a_mean_over_methods_is_resampled_together():
    runs = [make_run(model, n_pairs=6, hard_pairs=4) for model in ("xception", "resnet18")]
    evaluation = metrics.evaluate(pd.concat(runs), 300)
    hard, test = hard_and_test(evaluation)
    c23 = (*test[:2], "c23", test[3])
    methods = [tuple([(f"trained-{model}-s0", *key[1:])] for key in (c23, test)) for model in ("xception", "resnet18")]
    found = metrics.mean_difference(evaluation, methods)
    gaps = np.mean([evaluation.values[a[0]]["auc"] - evaluation.values[b[0]]["auc"] for a, b in methods], axis=0)
    assert found["value"] == pytest.approx(gaps[0])
    assert (found["lo"], found["hi"]) == pytest.approx(tuple(np.quantile(gaps[1:], [0.025, 0.975])))
    assert metrics.mean_difference(evaluation, methods[:1]) == metrics.difference(evaluation, *methods[0])
    others = [tuple([(f"trained-{model}-s0", *key[1:])] for key in (hard, test)) for model in ("xception", "resnet18")]
    assert metrics.mean_difference(evaluation, others[:1]) == metrics.unpaired_difference(evaluation, *others[0])
    assert metrics.mean_difference(evaluation, others)["value"] == pytest.approx(
        np.mean([metrics.unpaired_difference(evaluation, *sides)["value"] for sides in others])
    )


def test_unpaired_differences_agree_with_two_bootstraps_of_their_own():
    run = make_run(n_pairs=8, hard_pairs=5)
    evaluation = metrics.evaluate(run, 2000)
    hard, test = hard_and_test(evaluation)
    found = metrics.unpaired_difference(evaluation, [hard], [test])
    rng, draws = np.random.default_rng(5), []
    for split in ("test_hard", "test"):
        part = metrics.video_scores(run[(run["split"] == split) & (run["quality"] == "c40")])
        pair_of = metrics.identity_pairs(part["video_id"].tolist())
        groups = [rows for _, rows in part.groupby(part["video_id"].map(pair_of))]
        tables = [pd.concat([groups[i] for i in rng.integers(0, len(groups), len(groups))]) for _ in range(400)]
        draws.append(np.array([roc_auc_score(table["label"], table["score"]) for table in tables]))
    low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
    assert (found["lo"], found["hi"]) == pytest.approx((low, high), abs=0.06)


def test_unpaired_differences_are_between_other_people_only():
    runs = pd.concat([make_run(seed=seed, n_pairs=4, hard_pairs=3) for seed in (0, 1)])
    evaluation = metrics.evaluate(runs, 40)
    hard, test = hard_and_test(evaluation)
    with pytest.raises(ValueError, match="share identity pairs .*use `difference`"):
        metrics.unpaired_difference(evaluation, [test], [(test[0], "test", "c23", "video")])
    with pytest.raises(ValueError, match="not measured on the same identity pairs"):
        metrics.unpaired_difference(evaluation, [test, hard], [(test[0], "val", "c40", "video")])
    seeds = [[(f"trained-xception-s{seed}", *key[1:]) for seed in (0, 1)] for key in (hard, test)]
    both = metrics.unpaired_difference(evaluation, *seeds)["value"]
    alone = [metrics.unpaired_difference(evaluation, [a], [b])["value"] for a, b in zip(*seeds, strict=True)]
    assert both == pytest.approx(np.mean(alone))


def test_each_method_is_set_beside_itself_on_harder_videos():
    runs = [make_run(seed=seed, n_pairs=5, hard_pairs=4) for seed in (0, 1)] + [make_run("resnet18", n_pairs=5)]
    evaluation = metrics.evaluate(pd.concat(runs), 50)
    table = metrics.hard_against_test(evaluation)
    assert table[["model", "quality"]].to_numpy().tolist() == [["xception", "c23"], ["xception", "c40"]]  # resnet18 has none
    for split, name in (("test", "test"), ("test_hard", "hard")):
        expected = metrics.by_method(evaluation, split=split).query("model == 'xception'")
        columns = [name, f"{name}_lo", f"{name}_hi"]
        np.testing.assert_allclose(table[columns], expected[["value", "lo", "hi"]])
    assert table["change"].to_list() == pytest.approx((table["hard"] - table["test"]).to_list())
    assert (table[["n_pairs", "n_real", "n_fake"]] == [4, 8, 8]).all(axis=None)
    assert metrics.hard_against_test(metrics.evaluate(runs[2], 20)).empty
    assert metrics.by_method(metrics.evaluate(runs[2], 20), split="test_hard").empty


def test_evaluation_rejects_parts_it_cannot_measure():
    run = make_run(n_pairs=2)
    with pytest.raises(ValueError, match="no validation predictions"):
        metrics.evaluate(run[run["split"] == "test"], 5)
    with pytest.raises(ValueError, match="needs real and fake"):
        metrics.evaluate(run[run["label"] == 1], 5)
    fakes_validate = run[(run["split"] != "val") | (run["label"] == 1)]
    with pytest.raises(ValueError, match="run trained-xception-s0, val at c23: needs real and fake"):
        metrics.evaluate(fakes_validate, 5)
    assert len(metrics.evaluate(fakes_validate[fakes_validate["split"] != "val"], 5, threshold=0.5).table) == 4
    with pytest.raises(ValueError, match="real and fake scores"):
        metrics.choose_threshold(np.array([1, 1]), np.array([0.1, 0.7]))


def test_predictions_come_back_as_written(tmp_path):
    predictions = make_predictions(models=("xception",), teachers=False, n_pairs=2).round({"score": 4})
    profile = profile_in(tmp_path)
    write_predictions(profile.workspace.results, predictions)
    loaded = store.load_predictions(profile)
    key = ["run", "method", "split", "quality", "video_id", "frame"]
    expected = predictions.sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(store.of_comparison(loaded), expected, check_dtype=False)
    assert (loaded["experiment"] == "").all() and loaded["video_id"].str.len().min() == 3  # "000" is not 0


def test_runs_with_and_without_harder_videos_lie_side_by_side(tmp_path):
    runs, profile = [make_run(n_pairs=2, hard_pairs=1), make_run("resnet18", n_pairs=2)], profile_in(tmp_path)
    write_predictions(profile.workspace.results, pd.concat(runs))
    splits = store.load_predictions(profile).groupby("model")["split"].unique().map(set).to_dict()
    assert splits == {"xception": {"val", "test", "test_hard"}, "resnet18": {"val", "test"}}


def test_bad_predictions_fail_with_one_line_that_names_the_file(tmp_path):
    profile = profile_in(tmp_path)
    with pytest.raises(FileNotFoundError, match="run notebooks 03 to 05"):
        store.load_predictions(profile)
    good = make_run(n_pairs=1)
    good.insert(0, "experiment", "")
    faults = {
        "columns": good.drop(columns="seed"),
        "empty cells": good.assign(score=np.nan),
        "labels other than": good.assign(label=2),
        "scores outside": good.assign(score=1.5),
        "splits other than val, test, test_hard": good.assign(split="train"),
        "no rows": good.iloc[:0],
        "two labels": pd.concat([good, good.assign(label=1 - good["label"])]),
        "scored twice": pd.concat([good, good.assign(score=0.5)]),
    }
    file = profile.workspace.results / store.TABLES["predictions"].file
    file.parent.mkdir(parents=True)
    for message, table in faults.items():
        table.to_csv(file, index=False)
        with pytest.raises(ValueError, match=message) as error:
            store.load_predictions(profile)
        assert str(file) in str(error.value) and "\n" not in str(error.value)
    good.to_csv(file, index=False)
    assert len(store.load_predictions(profile)) == len(good)


def test_methods_are_averaged_over_their_seeds():
    runs = [make_run(seed=seed, n_pairs=4) for seed in (0, 1)]
    both = metrics.by_method(metrics.evaluate(pd.concat(runs), 50))
    alone = [metrics.by_method(metrics.evaluate(run, 50)) for run in runs]
    assert (both["seeds"] == 2).all() and list(both["quality"]) == ["c23", "c40"]
    np.testing.assert_allclose(both["value"], (alone[0]["value"] + alone[1]["value"]) / 2)


def test_the_interval_over_seeds_holds_their_spread():
    """Seeds that disagree widen the interval; two methods on the same seeds stay paired."""
    weak, strong = (make_run(seed=seed, n_pairs=12, strength=strength) for seed, strength in ((0, 0.3), (1, 4.0)))
    evaluation = metrics.evaluate(pd.concat([weak, strong]), 400)
    keys = [(f"trained-xception-s{seed}", "test", "c40", "video") for seed in (0, 1)]
    both = metrics.draws(evaluation, keys, "auc")
    alone = np.stack([evaluation.values[key]["auc"] for key in keys])
    assert both[0] == pytest.approx(alone[:, 0].mean())
    assert both[1:].std() > 2 * alone[:, 1:].mean(axis=0).std()
    choices = np.stack([alone[0, 1:], alone[:, 1:].mean(axis=0), alone[1, 1:]])  # both draws the one, each once, the other
    assert np.allclose(np.abs(choices - both[1:]).min(axis=0), 0)
    share = (np.abs(choices - both[1:]).argmin(axis=0) == 1).mean()
    assert 0.4 < share < 0.6
    assert metrics.difference(evaluation, keys, keys) == {"value": 0.0, "lo": 0.0, "hi": 0.0}


def test_fewer_metrics_are_the_same_ones():
    predictions = make_predictions(models=("xception",), teachers=False)
    everything = metrics.evaluate(predictions, resamples=20)
    some = metrics.evaluate(predictions, resamples=20, levels=("video",), wanted=("auc",))
    columns = ["run", "split", "quality", "auc", "auc_lo", "auc_hi"]
    assert some.table[columns].equals(everything.table.query("level == 'video'")[columns].reset_index(drop=True))
    assert "eer" not in some.table and all(set(values) == {"auc"} for values in some.values.values())


def test_runs_are_chosen_by_the_auc_of_validation_faces():
    predictions = make_predictions()
    table = metrics.validation_auc(metrics.evaluate(predictions, resamples=2))
    part = predictions.query("split == 'val' and quality == 'c40' and run == @table.index[1]")
    assert set(table.index) == set(predictions["run"])
    assert table.loc[table.index[1], "c40"] == pytest.approx(roc_auc_score(part["label"], part["score"]))
