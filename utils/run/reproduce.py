"""The main job from one end to the other, what `make reproduce` runs: faces, networks, notebooks, report, comparison.

With it goes one seed of a small study of what unlabelled video is worth (the pilot `small`).

    python -m utils.run.reproduce [--profile repeat] [--strict] [--record]

`--record` adds the comparison, the minutes and the disk to `data/results/`, which the README quotes: for a fresh clone.
A partial tree is done as far as it goes: what is left out is named, and the exit code is 3. For a step that failed it is that
step's (1 or 2), for a bad request 2, otherwise 0. Finished work is not repeated.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from utils.config import PROFILES, Profile, get_profile
from utils.results import store
from utils.run import notebooks
from utils.run.arguments import at_least

FIRST = ("01", "02")  # notebooks before the networks are trained: data and faces
SOME_LOST = 1  # exit code of an extraction after videos that can't be read
READY = ".ready"  # the Makefile's mark in an environment that is complete


def step(*arguments: str) -> int:
    """Run a module of `utils.run` in a process of its own, so that no step leaves threads or memory to the next."""
    return subprocess.run([sys.executable, "-m", *arguments], check=False).returncode


def megabytes(folder: Path) -> float:
    """Return what the files below a folder take, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def measured(profile: Profile, seconds: float, environment: Path = Path(sys.prefix)) -> pd.DataFrame:
    """Return one row on a repeat that has just ended: processor, precision, cores, minutes of work and set-up, gigabytes.

    The set-up is taken to last from the environment's first file to the Makefile's mark. Raises FileNotFoundError without
    that mark, and where nothing was repeated.
    """
    runs = store.load_own(profile, "runs")
    if runs.empty or not (environment / READY).is_file():
        raise FileNotFoundError(f"nothing to record: run `make reproduce` of {profile.name} in an environment that it has made")
    set_up = (environment / READY).stat().st_mtime - (environment / "pyvenv.cfg").stat().st_mtime
    machine = runs[["cpu", "precision"]].mode().iloc[0].to_dict()
    sizes = {"packages_gb": megabytes(environment) / 1e3, "work_gb": megabytes(profile.workspace.work) / 1e3}
    return pd.DataFrame([{**machine, "cores": os.cpu_count(), "minutes": seconds / 60, "set_up": set_up / 60, **sizes}])


def reproduce(
    profile: str, strict: bool = False, seeds: tuple[int, ...] = (), record: bool = False, solutions: bool = False
) -> int:
    """Run the steps in order and return the exit code; `strict` fails for a repeated result outside of what seeds give.

    With `solutions` those of the notebooks' exercises are executed, too.
    """
    if record and not (Path(sys.prefix) / READY).is_file():
        print(f"error: --record needs an environment that `make` has set up: {sys.prefix} has no {READY}", file=sys.stderr)
        return 2
    began, codes = time.monotonic(), []
    book = ("utils.run.notebooks", "--profile", profile, *(["--solutions"] if solutions else []), "--only")
    later = [path.name[:2] for path in notebooks.find_notebooks() if path.name[:2] not in FIRST]
    codes.append(step(*book, *FIRST))
    try:
        enough = codes[-1] in (0, notebooks.PARTIAL) and not notebooks.too_little(get_profile(profile), "03")
    except (ValueError, OSError) as error:  # a damaged table of faces
        print(f"error: {error}", file=sys.stderr)
        return 1
    if enough:
        chosen = ("--seeds", *map(str, seeds)) if seeds else ()
        codes.append(step("utils.run.grid", "--profile", profile, "--groups", "main", *chosen))
    trained = codes[-1]  # what follows is one part each: where one fails, the others are done
    if trained == 0 and profile == "repeat":
        found = step("utils.run.extract", "--profile", "study-small")
        codes.append(notebooks.PARTIAL if found == SOME_LOST else found)
        if found in (0, SOME_LOST):
            codes.append(step("utils.run.pilot", "--owner", profile, "--only", "small", "--seeds", "0"))
    if trained in (0, notebooks.PARTIAL):
        codes.append(step(*book, *later))
    if trained == 0 and profile == "repeat":
        codes.append(step("utils.run.compare", *(["--strict"] if strict else []), *(["--record"] if record else [])))
    seconds = time.monotonic() - began
    print(f"{profile}: {seconds / 60:.1f} min", flush=True)
    if record and not any(codes):
        store.record(get_profile(profile), "main_job", measured(get_profile(profile), seconds))
    failed = [code for code in codes if code not in (0, notebooks.PARTIAL)]
    return failed[0] if failed else max(codes)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.run.reproduce", description="The main job, from videos to report.")
    parser.add_argument("--profile", default="repeat", choices=sorted(PROFILES))
    parser.add_argument("--strict", action="store_true", help="fail where a result lies outside of what seeds give")
    parser.add_argument("--record", action="store_true", help="add comparison, minutes and disk to data/results/")
    parser.add_argument("--seeds", nargs="+", type=at_least(0), default=(), help="default: those of the profile")
    parser.add_argument("--solutions", action="store_true", help="execute the solutions of the exercises, too")
    arguments = parser.parse_args(argv)
    return reproduce(
        arguments.profile, arguments.strict, tuple(arguments.seeds), arguments.record, arguments.solutions
    )


if __name__ == "__main__":
    sys.exit(main())
