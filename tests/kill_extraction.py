"""Kill an extraction at random moments, let it go on, and compare the cache with that of an undisturbed run.

    python tests/kill_extraction.py [--kills 20] [--videos 24] [--jobs 2] [--seed 0]

Each round begins the cache anew, kills the whole process group with SIGKILL once (`--again` times) and lets it end. Prints
one line a round; the exit code is 1 if a cache differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RUN = """
import sys
from utils.config import FacesConfig
from utils.faces import crops
from kill_extraction import videos
crops.extract_all(videos(int(sys.argv[2])), FacesConfig(size=48), sys.argv[1], int(sys.argv[3]))
"""


def videos(count: int):
    """Return the index of SynthFF's first test videos."""
    from utils.config import get_profile
    from utils.faces import ffpp

    return ffpp.load_index(get_profile("synthff")).query("split == 'test'").head(count)


def begin(folder: Path, count: int, jobs: int) -> subprocess.Popen:
    """Start an extraction in a process group of its own."""
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-c", RUN, str(folder), str(count), str(jobs)]
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    """Wait for an extraction; raise RuntimeError if it failed."""
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)


def kill(process: subprocess.Popen) -> None:
    """End an extraction and its workers as a power cut would."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the hash of every file that a finished cache consists of."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*")) if p.is_file()}


def wait_for(folder: Path, done: int, process: subprocess.Popen) -> None:
    """Wait until so many videos are done, or the process has ended."""
    while process.poll() is None and len(list(folder.glob("videos/[!.]*.json"))) < done:
        time.sleep(0.002)


def round_of(folder: Path, rng: np.random.Generator, count: int, jobs: int, again: int) -> str:
    """Kill an extraction at random moments, let it end; return in words when it was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    moments = []
    for done in sorted(rng.integers(0, count, again)):
        process = begin(folder, count, jobs)
        wait_for(folder, done, process)
        time.sleep(rng.uniform(0, 0.1) if done else rng.uniform(0, 3))
        kill(process)
        moments.append(f"{len(list(folder.glob('videos/[!.]*.json')))}")
    finish(begin(folder, count, jobs))
    return f"killed with {' and '.join(moments)} of {count} videos done"


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill extraction at random moments and compare what it ends with.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--again", type=int, default=1, help="kills a round")
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, different = np.random.default_rng(arguments.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        finish(begin(Path(folder, "undisturbed"), arguments.videos, arguments.jobs))
        expected = fingerprint(Path(folder, "undisturbed"))
        for number in range(arguments.kills):
            told = round_of(Path(folder, "killed"), rng, arguments.videos, arguments.jobs, arguments.again)
            equal = fingerprint(Path(folder, "killed")) == expected
            different += not equal
            print(f"{number + 1}: {told}: {'equal' if equal else 'DIFFERENT'}", flush=True)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
