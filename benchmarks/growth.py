"""Time and peak memory of index, extraction and training against the number of videos, and what FF++ would take.

    python benchmarks/growth.py [--videos 48 104 200 400 1000] [--csv benchmarks/growth.csv] [--figure figures/growth.svg]

Trees of links to SynthFF's clips, two sampled frames a video and a small network keep 1,000 videos to some minutes: what
grows is looked for, not how fast a network is. Each point runs in a process of its own, and the table goes on where it
stopped, a row a point. Memory is counted twice: `rss_mb`, the kernel's peak of the process with what it has mapped of files,
and `own_mb`, the peak of what belongs to the process and its children alone, looked at 50 times a second: pages of a memory
map go when others need the room, own ones don't.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
from measured import require_alike
from trees import make_tree

from utils.config import DataConfig, FacesConfig, ModelConfig, Profile, TrainConfig, get_profile
from utils.paths import ROOT, atomic

STAGES = ("index", "extraction", "training")
COLUMNS = ["videos", "stage", "seconds", "rss_mb", "own_mb", "cores", "machine"]
VIDEOS = (48, 104, 200, 400, 1000)
STEPS = 20
MODEL = ModelConfig(px=32, steps=STEPS, batch_size=16)
MEASURES = {"seconds": "time (s)", "own_mb": "own memory at its peak (MB)"}
LOOK = 0.02  # seconds between two looks at the memory


def profile_of(tree: Path) -> Profile:
    """Return the smallest profile that extracts and trains on a tree; it writes below DEEPFAKE_WORK."""
    return replace(
        get_profile("smoke"),
        name="growth",
        data=DataConfig(root=str(tree)),
        faces=FacesConfig(max_frames=2, size=48),
        train=TrainConfig(eval_every=STEPS, precision="fp32"),
        models={"resnet18": MODEL},
    )


def prepare(stage: str, tree: Path, jobs: int) -> Callable[[], object]:
    """Import what a stage needs, and no more, and return its work: extraction needs the tree, training extracted faces."""
    from utils.faces import ffpp

    profile = profile_of(tree)
    if stage == "index":
        return lambda: ffpp.load_index(profile)
    if stage == "extraction":
        from utils.faces import crops

        return lambda: crops.extract_all(ffpp.load_index(profile), profile.faces, profile.workspace.faces, n_jobs=jobs)
    from utils.learn.dataset import load_faces
    from utils.learn.models import create_model
    from utils.learn.training import fit

    def train():
        faces = load_faces(profile)
        parts = faces.select(split="train"), faces.select(split="val")
        return fit(create_model("resnet18", MODEL), *parts, MODEL, profile.train, profile.workspace.runs / "run", seed=0)

    return train


def status_mb(field: str, pid: int | str = "self") -> float:
    """Return a memory (MB) that the kernel gives of a process, 0 where it gives none: of one that has just ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def own_mb(pid: int | str = "self") -> float:
    """Return the memory (MB) that belongs to a process and its descendants: anonymous pages, none of files."""
    try:
        own = status_mb("RssAnon", pid)
        children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0.0
    return own + sum(own_mb(child) for child in children)


@contextmanager
def peak_memory():
    """Yield a list that holds the peak of `own_mb` so far."""
    peak, stop = [own_mb()], threading.Event()

    def look() -> None:
        while not stop.wait(LOOK):
            peak[0] = max(peak[0], own_mb())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    yield peak
    stop.set()
    watcher.join()


def point(stage: str, tree: Path, jobs: int) -> dict:
    """Run one stage in this process and return what it took."""
    work = prepare(stage, tree, jobs)
    with peak_memory() as peak:
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
    # Not getrusage's ru_maxrss: on Linux that is at least what the parent had when it forked.
    return {"seconds": round(seconds, 3), "rss_mb": round(status_mb("VmHWM"), 1), "own_mb": round(peak[0], 1)}


def measure(videos: int, todo: list[str], jobs: int) -> list[dict]:
    """Return a row a stage of a tree of so many videos, each measured in a fresh process."""
    from utils.learn.precision import cpu_kind  # with torch, which the index does not need

    rows, about = [], {"cores": jobs, "machine": cpu_kind()}
    with tempfile.TemporaryDirectory() as folder:
        tree = make_tree(Path(folder) / "tree", videos)
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {
            "DEEPFAKE_WORK": f"{folder}/work",
            "TQDM_DISABLE": "1",
            "PYTHONPATH": paths,
            "OMP_NUM_THREADS": str(jobs),
        }
        needed = STAGES[: max(STAGES.index(stage) for stage in todo) + 1]
        for stage in needed:
            command = [sys.executable, __file__, "--point", stage, str(tree), str(jobs)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{stage} of {videos} videos failed: {done.stderr.strip().splitlines()[-1]}")
            if stage in todo:
                rows.append({"videos": videos, "stage": stage, **json.loads(done.stdout.splitlines()[-1]), **about})
        shutil.rmtree(tree)
    return rows


def fill(counts: list[int], path: Path, jobs: int) -> pd.DataFrame:
    """Return the table of all points, measured where the file has no row yet; it is written after each number of videos."""
    from utils.learn.precision import cpu_kind

    table = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=COLUMNS)
    require_alike(table, path, cores=jobs, machine=cpu_kind())
    for videos in counts:
        have = set(table.loc[table["videos"] == videos, "stage"])
        if todo := [stage for stage in STAGES if stage not in have]:
            rows = pd.DataFrame(measure(videos, todo, jobs))
            table = pd.concat([table, rows], ignore_index=True) if len(table) else rows
            table = table[COLUMNS].sort_values(["videos", "stage"], kind="stable", ignore_index=True)
            with atomic(path) as file:
                table.to_csv(file, index=False, lineterminator="\n")
            print(rows.to_string(index=False, header=videos == counts[0]), flush=True)
    return table


def fitted(table: pd.DataFrame) -> pd.DataFrame:
    """Return a line a stage and measure: value = a + b videos, b with its 95 % interval (Student's t); b a 1,000 videos.

    A stage with one point has no line, one with two no interval.
    """
    from scipy import stats

    rows = []
    for (stage, points), measure in ((one, measure) for one in table.groupby("stage") for measure in MEASURES):
        if len(points) < 2:
            continue
        line = stats.linregress(points["videos"].astype(float), points[measure].astype(float))
        half = stats.t.ppf(0.975, len(points) - 2) * line.stderr if len(points) > 2 else float("nan")
        slope = [1000 * value for value in (line.slope, line.slope - half, line.slope + half)]
        rows.append([stage, measure, line.intercept, *slope, line.rvalue**2])
    return pd.DataFrame(rows, columns=["stage", "measure", "at_0", "a_1000", "lo", "hi", "r2"])


def draw(table: pd.DataFrame, lines: pd.DataFrame, path: Path) -> None:
    """Write the figure: time and memory against videos, with the fitted lines."""
    import matplotlib.pyplot as plt

    from utils.results import style

    fig, axes = plt.subplots(1, len(MEASURES), figsize=(style.PAGE, 2.6))
    for ax, (measure, label) in zip(axes, MEASURES.items(), strict=True):
        for place, stage in enumerate(STAGES):
            points, colour = table[table["stage"] == stage], style.shade(place, len(STAGES))
            ax.plot(points["videos"], points[measure], "o", markersize=3.5, color=colour, label=stage)
            ends = points["videos"].agg(["min", "max"])
            for line in lines[(lines["stage"] == stage) & (lines["measure"] == measure)].itertuples():
                ax.plot(ends, line.at_0 + line.a_1000 * ends / 1000, color=colour, linewidth=1)
        ax.set(xlabel="videos", ylabel=label)
        ax.set_ylim(bottom=0)
    style.outside_legend(fig, axes[0], "SynthFF's clips, two frames a video, resnet18 for 20 steps")
    style.save_figure(fig, path)


def extrapolation() -> list[str]:
    """Return what FF++ takes by the plan on four kinds of machine: growth says that its time is linear, rates how long."""
    from utils.learn.precision import cpu_kind
    from utils.run import costs, plan

    profile = get_profile("ffpp")
    cpu, gpu = costs.load_rates(costs.CPU, cpu_kind()), costs.load_rates(costs.CUDA)
    faces = plan.count_faces(profile)
    parts = plan.make_plan(profile, faces, cpu, gpu)
    shown = [part for part in parts if part.name in ("index", "extraction", *profile.main_job)]
    text = plan.table(shown)[["part", "images", "2 cores", "16 cores", "1 GPU", "8 GPUs"]].to_string(index=False)
    return [text, *plan.notes(profile, shown, faces, cpu, gpu)]


def report(table: pd.DataFrame) -> None:
    """Print the points, the fitted lines and the extrapolation."""
    lines = fitted(table)
    print(table.drop(columns="machine").to_string(index=False), end="\n\n")
    print(lines.round(3).to_string(index=False), end="\n\n")
    for row in lines[lines["measure"] == "own_mb"].itertuples():
        change = f"{row.a_1000:+.1f} [{row.lo:+.1f}, {row.hi:+.1f}] MB of memory for 1,000 videos more"
        print(f"{row.stage}: {change}, from {row.at_0:.0f} MB: {4 * row.a_1000:+.0f} MB at FF++'s 4,000")
    print("\nFaceForensics++ (4,000 videos), hours, an estimate:", *extrapolation(), sep="\n")


def main() -> None:
    if sys.argv[1:2] == ["--point"]:  # a fresh process, called by `measure`
        stage, tree, jobs = sys.argv[2:]
        print(json.dumps(point(stage, Path(tree), int(jobs))))
        return
    parser = argparse.ArgumentParser(description="Time and memory against the number of videos.")
    parser.add_argument("--videos", nargs="+", type=int, default=list(VIDEOS), help="multiples of 8, at least 24")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "growth.csv")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    try:
        table = fill(sorted(arguments.videos), arguments.csv, arguments.jobs)
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f"error: {error}\n")
    report(table)
    if arguments.figure:
        draw(table, fitted(table), arguments.figure)


if __name__ == "__main__":
    main()
