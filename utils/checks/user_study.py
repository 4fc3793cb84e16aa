"""Can people tell real from fake? A study to repeat at home, after that of the FF++ paper (Rössler et al. 2019).

    python -m utils.checks.user_study ANSWERS.csv [--profile synthff]

Notebook 02 draws test faces, prints them on one numbered sheet a quality and keeps the key apart. Whoever takes part writes
`real` or `fake` beside each number of the answer form; label 1 is fake, 0 real, as everywhere.
"""

from __future__ import annotations

import argparse
import csv
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import binomtest

from utils.config import PROFILES, Profile, get_profile
from utils.paths import REFERENCE, Workspace, atomic
from utils.results import store
from utils.results.metrics import evaluate, validation_auc
from utils.results.pictures import picture_grid, save_picture

KEY_COLUMNS = ["number", "quality", "method", "video_id", "frame", "label"]
TEMPLATE = "answers_template.csv"
MOST = 15  # faces of one class at one quality
ACROSS = 6  # faces in a row of a sheet: 1.2 inches, or 230 px of the saved picture, for each
WORDS = {"real": 0, "r": 0, "fake": 1, "f": 1}
CLASSES = {"all": (0, 1), "real": (0,), "fake": (1,)}
READER = "you"


def draw_faces(found: pd.DataFrame, seed: int = 0, most: int = MOST) -> pd.DataFrame:
    """Return the faces to show, in order: columns `KEY_COLUMNS` and `row`, their place among the crops.

    `found` has the columns of the face cache. Every quality gets as many real as fake test faces, up to `most` of each, in
    random order; numbers go on from one quality to the next. Each face is that of another person, so that nobody can hold
    a person's real face against the fake, and a random one of that person's frames. Raises ValueError where there are too few
    people.
    """
    test = found[found["split"] == "test"].sort_values(["target", "video_id", "quality", "frame"], kind="stable")
    cells = list(product(sorted(test["quality"].unique()), (0, 1)))
    views = test.drop_duplicates(["target", "quality", "label"]).groupby("target").size()
    people = views.index[views == len(cells)].to_numpy()  # who was never found in one cell cannot be drawn for it
    each = min(most, len(people) // max(1, len(cells)))
    if each == 0:
        raise ValueError(f"too few test people for a user study: {len(people)} have real and fake faces at every quality")
    rng = np.random.default_rng(seed)
    groups = rng.permutation(people)[: each * len(cells)].reshape(len(cells), each)
    parts: dict[str, list[pd.DataFrame]] = {}
    for (quality, label), members in zip(cells, groups, strict=True):
        faces = test[test["target"].isin(members) & (test["quality"] == quality) & (test["label"] == label)]
        one_each = faces.sample(frac=1, random_state=rng).drop_duplicates("target")
        parts.setdefault(quality, []).append(one_each)
    sheets = [pd.concat(halves).sample(frac=1, random_state=rng) for halves in parts.values()]
    drawn = pd.concat(sheets, ignore_index=True)
    return drawn.assign(number=range(1, len(drawn) + 1))[[*KEY_COLUMNS, "row"]]


def contact_sheet(crops: np.ndarray, numbers: list[int]) -> Figure:
    """Show crops (n, S, S, 3) in reading order, each below its number, and nothing else about them."""
    rows = [list(crops[start : start + ACROSS]) for start in range(0, len(crops), ACROSS)]
    fig = picture_grid(rows, height=crops.shape[1])
    width, height = fig.get_size_inches()
    fig.set_size_inches(width, height + 0.2 * (len(rows) - 1))  # the grid has room for one row of numbers
    for ax, number in zip(fig.axes, numbers, strict=False):  # the last row may have gaps
        ax.set_title(str(number), fontsize="medium", pad=2)
    return fig


def sheet_path(space: Workspace, quality: str) -> Path:
    """Return where the sheet of one quality is written."""
    return space.figures / f"user_study_{quality}.jpg"


def write_study(found: pd.DataFrame, crops: np.ndarray, space: Workspace, seed: int = 0, close: bool = True) -> pd.DataFrame:
    """Draw the faces, write sheets, key and empty answer form into the workspace, and return the key.

    `found` and `crops` are what `crops.load_crops` returns; `close=False` leaves the sheets open, to be looked at. Raises
    what `draw_faces` raises.
    """
    drawn = draw_faces(found, seed)
    for quality, part in drawn.groupby("quality"):
        fig = contact_sheet(crops[part["row"].to_numpy()], part["number"].tolist())
        save_picture(fig, sheet_path(space, quality))
        if close:
            plt.close(fig)
    key = drawn[KEY_COLUMNS]
    for name, table in {"key.csv": key, TEMPLATE: key[["number"]].assign(answer="")}.items():
        with atomic(space.user_study / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    return key


def read_key(space: Workspace) -> pd.DataFrame:
    """Return the key of a workspace, columns `KEY_COLUMNS`; raise FileNotFoundError where no study was drawn."""
    path = space.user_study / "key.csv"
    if not path.is_file():
        raise FileNotFoundError(f"no key at {path}: run notebook 02_face_extraction with this profile")
    return pd.read_csv(path, dtype={"quality": str, "method": str, "video_id": str})  # "007" is not 7


def read_answers(path: Path | str, key: pd.DataFrame) -> pd.Series:
    """Return the answers given (1 fake, 0 real), indexed by number; faces without an answer are left out.

    Raises FileNotFoundError for a missing file, and ValueError that names file and line for an unknown word, a number that
    the key lacks or that comes twice, and for a file that is no answer form or has no answer in it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no answers at {path}: copy {TEMPLATE} there and write real or fake beside the numbers")
    answers: dict[int, int | None] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a byte order mark first
            reader = csv.DictReader(file)
            if not {"number", "answer"} <= set(reader.fieldnames or ()):
                raise ValueError(f"{path}, line 1: expected `number,answer`: start from a copy of {TEMPLATE}")
            for row in reader:
                _add_answer(answers, row, set(key["number"]), f"{path}, line {reader.line_num}")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text: save it as CSV in UTF-8") from None
    given = pd.Series({number: answer for number, answer in answers.items() if answer is not None}, dtype=int)
    if given.empty:
        raise ValueError(f"{path}: no face is answered: write real or fake beside the numbers")
    return given


def _add_answer(answers: dict[int, int | None], row: dict, numbers: set[int], place: str) -> None:
    """Check one line of an answer form and add its number and answer; None stands for no answer."""
    text, word = ((row[name] or "").strip() for name in ("number", "answer"))
    if not text.isdecimal() or int(text) not in numbers:
        raise ValueError(f"{place}: number {text!r} is not in the key: use {min(numbers)} to {max(numbers)}")
    if int(text) in answers:
        raise ValueError(f"{place}: number {text} comes twice: keep one of the two lines")
    if word and word.lower() not in WORDS:
        raise ValueError(f"{place}: answer {word!r}: write real or fake (r or f), or leave it empty")
    answers[int(text)] = WORDS.get(word.lower())


def wilson(right: int, answered: int) -> tuple[float, float, float]:
    """Return a share and its 95 % interval (Wilson 1927); NaN where nothing was answered."""
    if answered == 0:
        return np.nan, np.nan, np.nan
    found = binomtest(right, answered).proportion_ci(method="wilson")
    return right / answered, float(found.low), float(found.high)


def score(answers: pd.Series, key: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies over the answered faces: of all, real and fake ones, over all qualities and at each.

    `answers` (1 fake, 0 real) is indexed by number. Columns quality, faces, shown, answered, right, and accuracy, lo, hi
    in 0..1 with Wilson's 95 % interval.
    """
    answer = key["number"].map(answers)  # NaN: not answered
    table = key.assign(answered=answer.notna(), right=answer == key["label"])
    rows = []
    for quality, (faces, labels) in product(["all", *sorted(key["quality"].unique())], CLASSES.items()):
        part = table[table["label"].isin(labels) & ((quality == "all") | (table["quality"] == quality))]
        right, answered = int(part["right"].sum()), int(part["answered"].sum())
        rows.append((quality, faces, len(part), answered, right, *wilson(right, answered)))
    return pd.DataFrame(rows, columns=["quality", "faces", "shown", "answered", "right", "accuracy", "lo", "hi"])


def load_humans() -> pd.DataFrame:
    """Return how often the FF++ paper's participants were right: columns quality, accuracy (%), source."""
    return pd.read_csv(REFERENCE / "humans_ffpp.csv")


def network_answers(predictions: pd.DataFrame, key: pd.DataFrame) -> tuple[str, pd.Series] | None:
    """Return a run's name and its answers to the same faces, or None where the predictions lack one of them.

    The run is the one with the best AUC over validation faces, mean over qualities; the thresholds are validation's.
    """
    evaluation = evaluate(predictions[predictions["split"] == "val"], resamples=1, levels=("frame",))
    run = validation_auc(evaluation).mean(axis=1).idxmax()
    threshold = evaluation.table.query("run == @run").set_index("quality")["threshold"]
    scored = predictions[(predictions["run"] == run) & (predictions["split"] == "test")]
    columns = ["quality", "method", "video_id", "frame", "label"]
    same = key.merge(scored[[*columns, "score"]], on=columns, how="left", validate="one_to_one")
    if same["score"].isna().any():
        return None  # made from other faces than these
    fake = same["score"] >= same["quality"].map(threshold)
    return run, pd.Series(fake.to_numpy(dtype=int), index=same["number"])


def compare(answers: pd.Series, key: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Return the columns of `score` and `who`: the reader, a network if its predictions are there, FF++'s humans."""
    tables = [score(answers, key).assign(who=READER)]
    if store.has_predictions(profile):
        network = network_answers(store.of_comparison(store.load_predictions(profile)), key)
        if network is not None:
            tables.append(score(network[1], key).assign(who=network[0]))
    humans = load_humans()
    who = "humans, FF++ (" + humans["source"] + ")"
    tables.append(
        humans.assign(who=who, faces="all", accuracy=humans["accuracy"] / 100)[["who", "quality", "faces", "accuracy"]]
    )
    return pd.concat(tables, ignore_index=True)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `compare` as text: a row for who and which faces, a column a quality, accuracies in %."""

    def text(row) -> str:
        if pd.isna(row.accuracy):
            return "none answered"
        if pd.isna(row.lo):
            return f"{row.accuracy:.2%}"  # as published, without an interval
        return f"{row.accuracy:.0%} [{row.lo:.0%}, {row.hi:.0%}] of {row.answered:.0f}"

    wide = table.assign(text=[text(row) for row in table.itertuples()])
    order = {name: list(dict.fromkeys(wide[name])) for name in ("who", "faces", "quality")}
    wide = wide.pivot(index=["who", "faces"], columns="quality", values="text").fillna("")
    rows = [pair for pair in product(order["who"], order["faces"]) if pair in wide.index]
    return wide.loc[rows, order["quality"]].rename_axis(columns=None)


def in_words(table: pd.DataFrame) -> str:
    """Return one sentence on the reader's answers in a table of `compare`: how many were right, and against guessing."""
    row = table.query("who == @READER and quality == 'all' and faces == 'all'").iloc[0]
    guess = "within" if row.lo <= 0.5 <= row.hi else "outside"
    return (
        f"Of {row.shown:.0f} faces {row.answered:.0f} were answered, {row.right:.0f} of them rightly: {row.accuracy:.0%} "
        f"[{row.lo:.0%}, {row.hi:.0%}]. Guessing (50%) lies {guess} this interval."
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.checks.user_study", description="Score a reader's answers.")
    parser.add_argument("answers", type=Path, help=f"a filled-in copy of {TEMPLATE}")
    parser.add_argument("--profile", default="synthff", choices=sorted(PROFILES))
    arguments = parser.parse_args(argv)
    profile = get_profile(arguments.profile)
    try:
        key = read_key(profile.workspace)
        table = compare(read_answers(arguments.answers, key), key, profile)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, f"error: {error}\n")
    print(readable(table).to_string(), in_words(table), sep="\n\n")


if __name__ == "__main__":
    main()
