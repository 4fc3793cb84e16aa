"""Results as data: the few committed tables, and what this machine has run beside them.

`data/results/` of the default profile holds `predictions.csv.gz`, `runs.csv`, `curves.csv` and `pseudo_labels.csv.gz`; the
README there says what each column means. Run folders below `data/work/` have the same in many small files. Reading joins
both: a committed run stands unless it was made with other settings than this machine's run of that name. The profile
`repeat` is the other way round: what this machine has repeated stands, and the committed runs fill the gaps.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from utils.config import Profile
from utils.learn.scores import COLUMNS, FACE, JUDGED, SCORES, checksums, read_scores, write_scores
from utils.paths import atomic, read_json, sha256

KEY = ["experiment", "run"]  # names one run: `experiment` is "" for the comparison and the cases
RUN_COLUMNS = [
    "experiment", "run", "phase", "model", "seed", "settings", "hash", "precision", "cpu", "threads", "labelled_people",
    "chosen", "steps", "loss", "val_loss", "val_auc_c23", "val_auc_c40", "val_auc", "seconds", "commit", "scores", "config",
]  # fmt: skip
CURVE_COLUMNS = [
    "experiment", "run", "step", "loss", "Lx", "Lu", "val_loss", "val_auc_c23", "val_auc_c40", "val_auc", "seconds",
]  # fmt: skip
JUDGED_COLUMNS = [
    "experiment", "run", "model", "phase", "seed", "view", "clip", "label", "p_fake", "frames", "right", "copies",
    "copies_right",
]  # fmt: skip
TEXT_COLUMNS = ("experiment", "run", "phase", "model", "settings", "hash", "precision", "cpu", "chosen", "commit", "scores")
TEXT = dict.fromkeys(TEXT_COLUMNS, "str")
SUMS = "SHA256SUMS"  # of a folder whose tables are committed results
IDENTITIES = ("video_id", "target", "source")  # "007" is no number
FROM_GIT = "take it from git again (`git checkout`)"  # what helps where a committed table is damaged


def read_table(path: Path, columns: Sequence[str], text: Sequence[str], remedy: str, **options) -> pd.DataFrame:
    """Read a CSV that has at least these columns, numbers in all of them but those of `text`; `options` are pandas'.

    Raises ValueError, a line with the file, what is wrong and the remedy.
    """
    try:
        table = pd.read_csv(path, **options)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        kind = "gzipped CSV" if path.suffix == ".gz" else "CSV"
        raise ValueError(f"{path}: no {kind} ({' '.join(str(error).split())[:100]}): {remedy}") from None
    if lacking := [name for name in columns if name not in table]:
        raise ValueError(f"{path}: no column {', '.join(lacking)}: {remedy}")
    wrong = [name for name in columns if name not in text and not pd.api.types.is_numeric_dtype(table[name])]
    if wrong and len(table):
        raise ValueError(f"{path}: other than numbers in the column {', '.join(wrong)}: {remedy}")
    return table


def read_metadata(tree: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    """Return what a data set's metadata.csv tells of its clips; None where there is none, or one that lacks these columns.

    A tree of FaceForensics++ may have a file of that name with anything in it. Raises ValueError for one that is no CSV.
    """
    path = tree / "metadata.csv"
    if not path.is_file():
        return None
    found = read_table(path, (), (), "build the data set again, or take the file away", dtype=dict.fromkeys(IDENTITIES, str))
    return found if set(columns) <= set(found) else None


def read_record(path: Path, under: str = "") -> dict[str, dict]:
    """Return what a record notes of each stage that was scored, "protocol" among it; nothing where there is none.

    The stages may stand `under` a key. Raises ValueError, naming the file, for anything else.
    """
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
        stages = found[under] if under else found
        right = (isinstance(one["protocol"], str) and isinstance(one.get("sha256", ""), str | dict) for one in stages.values())
        if all(right):
            return stages
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError(f"{path}: no record of what was scored: {FROM_GIT}")


def seal(*paths: Path) -> None:
    """Note the checksums of files of one folder in its SUMS, in place of all that stood there."""
    with atomic(paths[0].parent / SUMS) as temporary:  # as `sha256sum` writes them
        temporary.write_text("".join(f"{sha256(path)}  {path.name}\n" for path in paths), encoding="utf-8")


def require_sealed(path: Path) -> None:
    """Raise ValueError, naming the file, where its folder's SUMS has another checksum for it, or none."""
    sums = path.parent / SUMS
    if sums.is_file():
        noted = {line[66:]: line[:64] for line in sums.read_text(encoding="utf-8", errors="replace").splitlines()}
        if noted.get(path.name) != sha256(path):
            raise ValueError(f"{path}: changed since it was written ({SUMS}): {FROM_GIT}")


def load_runs(profile: Profile) -> pd.DataFrame:
    """Return one row a run, columns `RUN_COLUMNS`, committed and own; no rows where there are none."""
    return _joined(profile, "runs")


def load_curves(profile: Profile) -> pd.DataFrame:
    """Return the learning curves of all runs, one row a validation, columns `CURVE_COLUMNS`."""
    return _joined(profile, "curves")


def load_pseudo_labels(profile: Profile) -> pd.DataFrame:
    """Return the judged pseudo-labels of all students, one row a clip and view, columns `JUDGED_COLUMNS`."""
    return _joined(profile, "pseudo_labels")


def load_predictions(profile: Profile) -> pd.DataFrame:
    """Return all scores, one row a face and run: "experiment" and the columns of `scores.COLUMNS`.

    Raises FileNotFoundError where there are none and ValueError for a malformed file.
    """
    table = _joined(profile, "predictions")
    if table.empty:
        folder = profile.workspace.results
        raise FileNotFoundError(f"no predictions in {folder}: run notebooks 03 to 05, or `make reproduce`")
    return table.sort_values([*KEY, *FACE], kind="stable", ignore_index=True)


def curves_of(profile: Profile, runs: list[str]) -> dict[str, pd.DataFrame]:
    """Return the learning curves of some runs of the comparison and the cases, by name, in this order."""
    table = load_curves(profile)
    table = table[table["experiment"] == ""]
    return {run: table[table["run"] == run] for run in runs}


def has_predictions(profile: Profile) -> bool:
    """Tell whether there is any score to read, without reading it."""
    committed = profile.base.workspace.results / TABLES["predictions"].file
    return committed.is_file() or any(profile.workspace.runs.rglob(SCORES))


def runs_with_scores(profile: Profile) -> set[tuple[str, str]]:
    """Return the runs that `load_predictions` has scores of, by experiment and name, without reading these."""
    runs, folders = load_committed(profile, "runs"), _standing(profile)
    committed = set(runs.dropna(subset="scores")[KEY].itertuples(index=False, name=None))
    return committed - set(folders) | {key for key, folder in folders.items() if (folder / SCORES).is_file()}


def load_committed(profile: Profile, name: str) -> pd.DataFrame:
    """Return a committed table of `TABLES` alone; no rows where there is none. Raises ValueError for a damaged one."""
    table, path = TABLES[name], profile.base.workspace.results / TABLES[name].file
    if not path.is_file():
        return pd.DataFrame(columns=table.columns)
    if name == "predictions":
        read = read_scores(path, table.columns, FROM_GIT)
    else:
        read = read_table(path, table.columns, (*TEXT, "view", "config"), FROM_GIT, dtype=TEXT)
    read = read.assign(experiment=read["experiment"].fillna(""))
    if name == "predictions":
        _require_whole(path, read, load_committed(profile, "runs"))
    return read


def _require_whole(path: Path, predictions: pd.DataFrame, runs: pd.DataFrame) -> None:
    """Raise ValueError unless these are the scores that the table of runs has checksums of, all of them."""
    known = runs.set_index(KEY)["scores"].dropna()
    found = checksums(predictions, KEY).reindex(known.index)
    if any(found != known):
        run = known.index[found != known][0]
        what = "are missing" if pd.isna(found[run]) else "were changed or are not all there"
        raise ValueError(f"{path}: scores of {'/'.join(filter(None, run))} {what}: take both tables from git (`git checkout`)")


def load_own(profile: Profile, name: str) -> pd.DataFrame:
    """Return the same table of this machine's runs alone."""
    return _gathered(name, _own_folders(profile))


def load_measured(profile: Profile) -> dict[str, pd.DataFrame]:
    """Return what repeats of the main job have measured, as far as it is committed, by name.

    `repeats`: repeated runs beside the committed ones (`run/compare.py`); `main_job`: minutes and disk (`run/reproduce.py`).
    """
    paths = {name: profile.base.workspace.results / f"{name}.csv" for name in ("repeats", "main_job")}
    kind = ("cpu", "precision")
    return {name: read_table(path, kind, kind, FROM_GIT) for name, path in paths.items() if path.is_file()}


def record(profile: Profile, name: str, table: pd.DataFrame) -> None:
    """Add to a table of `load_measured`, in place of older rows of the same kinds of processor and precision."""
    path = profile.base.workspace.results / f"{name}.csv"
    older = load_measured(profile).get(name, table.iloc[:0])
    kinds = set(zip(table["cpu"], table["precision"], strict=True))
    kept = older[[kind not in kinds for kind in zip(older["cpu"], older["precision"], strict=True)]]
    joined = pd.concat([part for part in (kept, table) if len(part)], ignore_index=True)
    with atomic(path) as temporary:
        joined.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")


def of_comparison(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the comparison and the cases: what belongs to no experiment."""
    return predictions[predictions["experiment"] == ""].drop(columns="experiment").reset_index(drop=True)


def _joined(profile: Profile, name: str) -> pd.DataFrame:
    """Return a committed table and the same of this machine's run folders, every run from one of the two."""
    return _in_place(load_committed(profile, name), name, _standing(profile))


def _in_place(committed: pd.DataFrame, name: str, folders: dict[tuple[str, str], Path]) -> pd.DataFrame:
    if not folders:
        return committed
    own = _gathered(name, folders)  # a run that is trained and not yet scored has no row here, and stays as committed
    replaced = pd.MultiIndex.from_frame(committed[KEY]).isin(pd.MultiIndex.from_frame(own[KEY]))
    parts = [part for part in (committed[~replaced], own) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else committed


def _standing(profile: Profile) -> dict[tuple[str, str], Path]:
    """Return the folders of this machine's runs that stand before the committed ones."""
    folders = _own_folders(profile)
    if folders and not profile.repeat_of:  # a committed run stands, unless config.py has changed since
        known = load_committed(profile, "runs").set_index(KEY)[["settings", "labelled_people"]]
        known = {key: tuple(row) for key, row in zip(known.index, known.to_numpy().tolist(), strict=True)}
        folders = {key: folder for key, folder in folders.items() if known.get(key) != _settings(folder)}
    return folders


def _gathered(name: str, folders: dict[tuple[str, str], Path]) -> pd.DataFrame:
    """Return a table of run folders; those that lack its file have no row."""
    table = TABLES[name]
    parts = [part.assign(experiment=key[0]) for key, folder in folders.items() if (part := table.read(folder)) is not None]
    return (pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()).reindex(columns=table.columns)


def _own_folders(profile: Profile) -> dict[tuple[str, str], Path]:
    """Return the folders of this machine's finished runs by experiment and name."""
    root = replace(profile, variant="").workspace.runs
    folders = sorted(path.parent for path in root.rglob("result.json"))
    return {(folder.parent.relative_to(root).as_posix().removeprefix("."), folder.name): folder for folder in folders}


def _or_damaged(read: Callable) -> Callable:
    """Let `read` of a run folder raise ValueError, naming the folder and the remedy, where its files are none of a run's."""

    @wraps(read)
    def reading(folder: Path, *arguments, **options):
        try:
            return read(folder, *arguments, **options)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            reason = " ".join(f"{type(error).__name__} {error}".split())[:100]
            raise ValueError(f"{folder} is no finished run ({reason}): train it again, by the same command") from None

    return reading


@_or_damaged
def _settings(folder: Path) -> tuple[str, int]:
    config = read_json(folder / "config.json")
    return config["settings"], labelled_people(config)


@_or_damaged
def _run_of(folder: Path) -> pd.DataFrame:
    return pd.DataFrame([run_row(read_json(folder / "config.json"), read_json(folder / "result.json"))])


def labelled_people(config: dict) -> int:
    """Return how many people a run has learned from with labels, from its config.json."""
    return 2 * len(config["data"]["pairs"])


def run_row(config: dict, result: dict) -> dict:
    """Return a run's row of the table of runs from its config.json and result.json."""
    machine = config["machine"]
    request = {
        name: config[name] for name in config if name not in ("run", "hash", "settings", "git_commit", "machine", "chosen")
    }
    about = {name: config.get(name, "") for name in ("run", "phase", "model", "seed", "settings", "hash", "chosen")}
    about |= {"precision": config["train_config"]["precision"], "cpu": machine["cpu"], "threads": machine["threads"]}
    about |= {"labelled_people": labelled_people(config), "commit": config["git_commit"]}
    return about | result | {"config": json.dumps(request, sort_keys=True)}


@_or_damaged
def _curve_of(folder: Path) -> pd.DataFrame:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return pd.DataFrame([json.loads(line) for line in lines]).assign(run=folder.name)


def _file_of(folder: Path, name: str, read: Callable) -> pd.DataFrame | None:
    """Return one of the files that only some run folders have."""
    return read(folder / name) if (folder / name).is_file() else None


def _read_judged(path: Path) -> pd.DataFrame:
    columns = [name for name in JUDGED_COLUMNS if name != "experiment"]
    return read_table(path, columns, (*TEXT, "view"), "train the run again, by the same command", dtype=TEXT)


class Table(NamedTuple):
    """One table of results: its file, its columns, how a run folder's part is read, and the order of its rows."""

    file: str
    columns: tuple[str, ...]
    read: Callable[[Path], pd.DataFrame | None]
    order: list[str]


TABLES = {
    "predictions": Table(
        "predictions.csv.gz", ("experiment", *COLUMNS), partial(_file_of, name=SCORES, read=read_scores), [*KEY, *FACE]
    ),
    "runs": Table("runs.csv", tuple(RUN_COLUMNS), _run_of, KEY),
    "curves": Table("curves.csv", tuple(CURVE_COLUMNS), _curve_of, [*KEY, "step"]),
    "pseudo_labels": Table(
        "pseudo_labels.csv.gz", tuple(JUDGED_COLUMNS), partial(_file_of, name=JUDGED, read=_read_judged), [*KEY, "view", "clip"]
    ),
}


def write_results(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Write tables of `TABLES`, that of the runs with checksums of their scores; equal tables give equal files."""
    if "runs" in tables and "predictions" in tables:
        found = checksums(tables["predictions"], KEY)
        runs = tables["runs"].drop(columns="scores").join(found.rename("scores"), on=KEY)
        tables = tables | {"runs": runs[RUN_COLUMNS]}
    for name, table in tables.items():
        path, table = folder / TABLES[name].file, table.sort_values(TABLES[name].order, kind="stable", ignore_index=True)
        if path.suffix == ".gz":
            write_scores(path, table)
        else:
            with atomic(path) as temporary:
                table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def replace_committed(profile: Profile) -> list[str]:
    """Write this profile's results over the committed ones of the default profile it stands for; return the runs replaced.

    The only function that does. A run that is trained and not yet scored replaces nothing: its record would stand beside the
    scores of another network. Raises FileNotFoundError where there is nothing to write.
    """
    own = {key: folder for key, folder in _own_folders(profile).items() if (folder / SCORES).is_file()}
    if not own:
        raise FileNotFoundError(f"no scored run of profile {profile.name} on this machine: run `make reproduce` or `make grid`")
    tables = {name: _in_place(load_committed(profile, name), name, own) for name in TABLES}
    write_results(profile.base.workspace.results, tables)
    return ["/".join(filter(None, key)) for key in own]
