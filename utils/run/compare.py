"""How far does a repeated run lie from the committed one?

    python -m utils.run.compare [--profile repeat] [--strict] [--record | --replace]

`make reproduce` ends with this table: video AUC on test of every repeated run, committed and repeated, and the
difference beside the spread that other seeds have. *equal*: every score is the same, bit for bit. *within seeds*: no
further off than the two seeds of this method that lie furthest apart. *outside*: further; said loudly, and with
`--strict` an error. Where the committed method has one seed (column `seeds`), the spread is borrowed from the others
and says less.

Nothing here rewrites a result but `--replace`, which puts the repeated results in the place of the committed ones
(`make replace-results`); `--record` adds the comparison to `data/results/repeats.csv`, which the report quotes.
"""

from __future__ import annotations

import argparse
import sys

import pandas as pd

from utils.config import PROFILES, Profile, get_profile
from utils.learn.scores import FACE, equal_scores
from utils.paths import atomic
from utils.results import store
from utils.results.metrics import evaluate

EQUAL, WITHIN, OUTSIDE = "equal", "within seeds", "outside"
COLUMNS = ["cpu", "precision", "threads", "run", "quality", "committed", "repeated", "difference", "spread", "seeds", "verdict"]


def aucs_on_test(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return video AUC on test, one row a run and quality: phase, model, run, quality, auc."""
    measured = evaluate(predictions, resamples=1, levels=("video",), wanted=("auc",)).table
    return measured.loc[measured["split"] == "test", ["phase", "model", "run", "quality", "auc"]]


def seed_spread(aucs: pd.DataFrame) -> pd.DataFrame:
    """Return the distance of the two seeds that lie furthest apart, one row a method and quality: `spread`, `seeds`.

    A method with one seed has none of its own: it borrows the median of the others at its quality.
    """
    by_method = aucs.groupby(["phase", "model", "quality"])["auc"].agg(["max", "min", "size"]).reset_index()
    spread = (by_method["max"] - by_method["min"]).where(by_method["size"] > 1)
    median = spread.groupby(by_method["quality"]).transform("median")
    return by_method[["phase", "model", "quality"]].assign(spread=spread.fillna(median), seeds=by_method["size"])


def compare(profile: Profile) -> pd.DataFrame:
    """Return the comparison of what this machine has repeated with the committed runs of the same name: `COLUMNS`.

    Raises ValueError for a profile that repeats nothing, FileNotFoundError where nothing was repeated yet.
    """
    if not profile.repeat_of:
        raise ValueError(f"profile {profile.name} repeats no other: choose `repeat`")
    old, new = (store.of_comparison(load(profile, "predictions")) for load in (store.load_committed, store.load_own))
    if new.empty:
        raise FileNotFoundError(f"no repeated run in {profile.workspace.runs}: run `make reproduce`")
    aucs, again = aucs_on_test(old), aucs_on_test(new)
    if alone := sorted(set(again["run"]) - set(aucs["run"])):
        raise ValueError(f"no committed run is called {', '.join(alone)}: repeat those of data/results/runs.csv")
    table = again.merge(aucs, on=["phase", "model", "run", "quality"], suffixes=("_repeated", "_committed"))
    table = table.merge(seed_spread(aucs), on=["phase", "model", "quality"])
    table = table.rename(columns={"auc_repeated": "repeated", "auc_committed": "committed"})
    table["difference"] = table["repeated"] - table["committed"]
    equal = equal_scores(new, old, ["run", *FACE], ["run", "quality"])
    table["verdict"] = [
        EQUAL if equal[row.run, row.quality] else WITHIN if abs(row.difference) <= row.spread else OUTSIDE
        for row in table.itertuples()
    ]
    machine = store.of_comparison(store.load_own(profile, "runs")).set_index("run")[["cpu", "precision", "threads"]]
    return table.join(machine, on="run")[COLUMNS].sort_values(["run", "quality"], ignore_index=True)


def summary(table: pd.DataFrame) -> str:
    """Return the counts of the verdicts, and at c40 how far AUCs moved."""
    counts = table["verdict"].value_counts()
    parts = [f"{counts.get(verdict, 0)} {verdict}" for verdict in (EQUAL, WITHIN, OUTSIDE)]
    low = table.loc[table["quality"] == "c40", "difference"]
    return f"{len(table)} AUCs repeated: {', '.join(parts)}; at c40 they moved by {low.min():+.3f} to {low.max():+.3f}."


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.run.compare", description="Repeated against committed results.")
    parser.add_argument("--profile", default="repeat", choices=sorted(PROFILES))
    parser.add_argument("--strict", action="store_true", help="fail where a repeated AUC lies outside the spread of seeds")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--record", action="store_true", help="add this comparison to data/results/repeats.csv")
    action.add_argument("--replace", action="store_true", help="write this machine's results over the committed ones")
    arguments = parser.parse_args(argv)
    try:
        profile = get_profile(arguments.profile)
        if arguments.replace:
            runs = store.replace_committed(profile)
            print(f"replaced {len(runs)} committed runs: {', '.join(runs)}\nnow run `make notebooks`")
            return 0
        table = compare(profile)
        if arguments.record:
            store.record(profile, "repeats", table)
        with atomic(profile.workspace.work / "comparison.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table.drop(columns=["cpu", "threads"]).round(3).to_string(index=False), summary(table), sep="\n\n")
    outside = table[table["verdict"] == OUTSIDE]
    if len(outside):
        names = ", ".join(f"{row.run} at {row.quality} ({row.difference:+.3f})" for row in outside.itertuples())
        print(f"\nWARNING: OUTSIDE the spread of seeds: {names}", file=sys.stderr)
    return int(arguments.strict and len(outside) > 0)


if __name__ == "__main__":
    sys.exit(main())
