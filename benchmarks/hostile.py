"""What becomes of files and models that somebody made to mislead, crash or fill the instrument: one row each.

    python benchmarks/hostile.py [--csv FILE]

The files are those of `tests/hostile_files.py`, the models those of `tests/hostile_models.py`; both are made on the fly, and a
test holds each to what it must say. Here stands what was said, how long it took, and the most memory that was held: of a
process of its own for each file, and up to then of one process for all models.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from utils.learn.checkpoints import git_commit
from utils.learn.precision import cpu_kind
from utils.paths import ROOT, atomic

SCRIPTS = {"file": ROOT / "tests" / "hostile_files.py", "model": ROOT / "tests" / "hostile_models.py"}
OUTCOMES = {0: "real", 1: "fake", 2: "error", 3: "abstains"}  # exit codes of `utils.run.score`
LONGEST = 160  # characters of what was said


def attacked(kind: str) -> list[dict]:
    """Return a row a file, or model, in the order in which they are made."""
    environment = os.environ | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SCRIPTS[kind]), folder]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        rows = []
        for line in tqdm(running.stdout, desc=f"{kind}s", unit=kind, leave=False):
            found = json.loads(line)
            rows.append({
                "kind": kind, "name": found["name"], "outcome": OUTCOMES.get(found["code"], "crash"),
                "said": told(found["text"], folder), "seconds": found["seconds"], "megabytes": found["megabytes"],
            })  # fmt: skip
        if code := running.wait():
            raise RuntimeError(f"{SCRIPTS[kind].name} ended with {code} after {len(rows)} {kind}s")
    return rows


def told(text: str, folder: str) -> str:
    """Return the line that matters of what was printed, without where the file lay: an error, or else the first one."""
    lines = text.replace(f"{folder}/", "").replace(f"{ROOT}/", "").splitlines() or [""]
    line = next((line for line in lines if line.startswith("error: ")), lines[0])
    return re.sub(r"[^\x20-\x7e]", "?", line)[:LONGEST]


def main() -> None:
    parser = argparse.ArgumentParser(description="What becomes of hostile files and models.")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    table = pd.DataFrame([row for kind in SCRIPTS for row in attacked(kind)])
    table = table.assign(cpu=cpu_kind(), commit=git_commit())
    print(table.groupby(["kind", "outcome"])[["seconds", "megabytes"]].agg(["size", "max"]))
    if arguments.csv:
        with atomic(arguments.csv) as file:
            table.to_csv(file, index=False, float_format="%.4g", lineterminator="\n")


if __name__ == "__main__":
    main()
