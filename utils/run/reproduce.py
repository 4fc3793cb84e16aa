"""The main job from one end to the other, what `make reproduce` runs: faces, networks, notebooks, report, comparison.

    python -m utils.run.reproduce [--profile repeat] [--strict]

A partial tree is done as far as it goes: what is left out is named, and the exit code is 3. Exit code 1 for a step that
failed, 2 for a bad request, 0 otherwise. Finished work is not repeated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from utils.config import PROFILES, get_profile
from utils.run import notebooks


def step(*arguments: str) -> int:
    """Run a module of `utils.run` in a process of its own, so that no step leaves threads or memory to the next."""
    return subprocess.run([sys.executable, "-m", *arguments], check=False).returncode


def reproduce(profile: str, strict: bool = False, seeds: tuple[int, ...] = ()) -> int:
    """Run the steps in order and return the exit code; `strict` fails for a repeated result outside of what seeds give."""
    began, codes = time.monotonic(), []
    book = ("utils.run.notebooks", "--profile", profile, "--only")
    codes.append(step(*book, "01", "02"))
    if codes[-1] in (0, notebooks.PARTIAL) and not notebooks.too_little(get_profile(profile), "03"):
        chosen = ("--seeds", *map(str, seeds)) if seeds else ()
        codes.append(step("utils.run.grid", "--profile", profile, "--groups", "main", *chosen))
    if codes[-1] in (0, notebooks.PARTIAL):
        codes.append(step(*book, "03", "04", "05", "06", "07"))
    if codes[-1] == 0 and profile == "repeat":
        codes.append(step("utils.run.compare", *(["--strict"] if strict else [])))
    print(f"{profile}: {(time.monotonic() - began) / 60:.1f} min", flush=True)
    failed = [code for code in codes if code not in (0, notebooks.PARTIAL)]
    return failed[0] if failed else max(codes)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.run.reproduce", description="The main job, from videos to report.")
    parser.add_argument("--profile", default="repeat", choices=sorted(PROFILES))
    parser.add_argument("--strict", action="store_true", help="fail where a result lies outside of what seeds give")
    parser.add_argument("--seeds", nargs="+", type=int, default=(), help="default: those of the profile")
    arguments = parser.parse_args(argv)
    return reproduce(arguments.profile, arguments.strict, tuple(arguments.seeds))


if __name__ == "__main__":
    sys.exit(main())
