"""What one core, or one GPU, of this machine does in a second: the rates behind `make plan`.

    python benchmarks/rates.py [--profiles ffpp synthff] [--models xception ...] [--device cuda] [--csv benchmarks/rates.csv]

Each network is trained (forward, backward, optimiser step) and scored at its side in the profiles, in small batches on a CPU
and in the profile's on a GPU; faces are extracted from a clip of 1280x720 and a tree of empty files is indexed. A CPU is
measured with one thread by the time that the processor worked, so that other processes disturb little; the best round
counts. Rows of this machine are replaced in the table, those of others stay. A minute a network at most.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from tqdm import tqdm
from trees import make_tree

from utils.config import NETWORKS, FacesConfig, get_profile
from utils.faces import ffpp
from utils.faces.crops import extract_all
from utils.faces.video import iter_frames
from utils.learn.models import create_model
from utils.learn.precision import autocast, device_name, precision_that_runs
from utils.paths import RATES, atomic
from utils.run.costs import COLUMNS, CPU, CUDA, EXTRACT, INDEX, INFER, TRAIN

PIXELS = 16 * 96**2  # of a step's images on a CPU: small batches, a minute a network at most
LEAST = 4  # images of a step
ROUNDS = 3  # after one that warms up
QUIET = 0.9  # of the time of day must have been work of ours on one core
HD = (720, 1280)  # lines and columns of a clip of FF++
FRAMES = 96  # of that clip
VIDEOS = 2000  # of the tree that is indexed


def clock(device: torch.device) -> float:
    """Return seconds: of the processor's work on a CPU, of the day where a GPU works."""
    if device.type == CPU:
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def best_of(call, device: torch.device, rounds: int = ROUNDS) -> float:
    """Return the fewest seconds that a call took, after one call to warm up."""
    call()
    times = []
    for _ in range(rounds):
        began = clock(device)
        call()
        times.append(clock(device) - began)
    return min(times)


def measure_network(name: str, px: int, batch: int, device: torch.device) -> list[dict]:
    """Return the rates of training and of scoring of one network at one side."""
    precision = precision_that_runs("auto", device, px)
    model = create_model(name, replace(get_profile("synthff").model(name), px=px, weights="none")).to(device)
    images, labels = torch.rand(batch, 3, px, px, device=device), torch.arange(batch, device=device) % 2
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def forward():
        with autocast(device, precision):
            return model(images)

    def step():
        loss = F.cross_entropy(forward().float(), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()

    model.train()
    trained = best_of(step, device)
    model.eval()
    with torch.no_grad():
        scored = best_of(forward, device)
    about = {"precision": precision, "model": name, "px": px}
    return [about | {"work": work, "per_s": batch / taken} for work, taken in ((TRAIN, trained), (INFER, scored))]


def hd_clip(path: Path) -> Path:
    """Write a clip of 1280x720: a person of SynthFF before a grey wall, as FF++'s news readers are framed."""
    root = get_profile("synthff").data.root
    ((a, _), *_) = ffpp.load_splits(root)["train"]
    frames = [frame for _, frame in iter_frames(ffpp.video_path(root, ffpp.ORIGINAL, "c23", a), 1, None)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "23"})
        stream.height, stream.width, stream.pix_fmt = *HD, "yuv420p"
        for number in range(FRAMES):
            picture = np.full((*HD, 3), 128, np.uint8)
            face = np.repeat(np.repeat(frames[number % len(frames)], 2, 0), 2, 1)[: HD[0]]
            picture[: len(face), 400 : 400 + face.shape[1]] = face
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def measure_extraction(config: FacesConfig, folder: Path) -> dict:
    """Return sampled frames a second of `extract_all` in one process, at 1280x720."""
    root = folder / "hd"
    clip = hd_clip(ffpp.video_path(root, ffpp.ORIGINAL, "c23", "000"))
    about = {"video_id": "000", "method": ffpp.ORIGINAL, "quality": "c23", "label": 0, "target": "000", "source": ""}
    index = pd.DataFrame([about | {"pair": "000_001", "split": "train", "path": str(clip)}])
    rounds, cpu = iter(range(ROUNDS + 1)), torch.device(CPU)
    taken = best_of(lambda: extract_all(index, config, folder / f"faces{next(rounds)}", n_jobs=1), cpu, ROUNDS)
    sampled = len(pd.read_csv(folder / "faces0" / "faces.csv"))
    return {"work": EXTRACT, "model": config.detector, "px": HD[0], "per_s": sampled / taken}


def measure_index(folder: Path) -> dict:
    """Return videos a second of the index of a tree."""
    tree = make_tree(folder / "tree", VIDEOS)
    taken = best_of(lambda: ffpp.build_index(tree, ("NeuralTextures",), ("c23", "c40")), torch.device(CPU))
    return {"work": INDEX, "model": "", "px": 0, "per_s": VIDEOS / taken}


def measure(profiles: list[str], models: list[str], device: torch.device) -> pd.DataFrame:
    """Return the rows of this machine."""
    found = [get_profile(profile).models for profile in profiles]
    wanted = {(name, known[name].px): known[name] for known in found for name in models if name in known}
    rows = []
    for (name, px), config in tqdm(wanted.items(), unit="network"):
        rows += measure_network(name, px, max(LEAST, PIXELS // px**2) if device.type == CPU else config.batch_size, device)
    if device.type == CPU:
        with tempfile.TemporaryDirectory() as folder:
            config = replace(get_profile("ffpp").faces, detector="hog")
            rows += [measure_extraction(config, Path(folder)), measure_index(Path(folder))]
    return pd.DataFrame(rows).fillna({"precision": ""}).assign(machine=device_name(device), device=device.type)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rates of one core or one GPU of this machine, for `make plan`.")
    parser.add_argument("--profiles", nargs="+", default=["ffpp", "synthff"])
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--device", choices=(CPU, CUDA), default=CPU)
    parser.add_argument("--csv", type=Path, default=RATES)
    arguments = parser.parse_args()
    if arguments.device == CUDA and not torch.cuda.is_available():
        parser.exit(2, "error: no GPU that torch can use: leave out --device cuda\n")
    if arguments.device == CPU:
        torch.set_num_threads(1)
    began, worked = time.perf_counter(), time.process_time()
    table = measure(arguments.profiles, arguments.models, torch.device(arguments.device))
    share = (time.process_time() - worked) / (time.perf_counter() - began)
    if arguments.device == CPU and share < QUIET:
        print(f"WARNING: other processes took {1 - share:.0%} of the time: measure again on a quiet machine", file=sys.stderr)
    if arguments.csv.is_file():
        before = pd.read_csv(arguments.csv, keep_default_na=False)
        key = ["machine", "device", "work", "model", "px"]
        stays = ~pd.MultiIndex.from_frame(before[key]).isin(pd.MultiIndex.from_frame(table[key]))
        table = pd.concat([before[stays], table], ignore_index=True)
    with atomic(arguments.csv) as file:
        table[COLUMNS].to_csv(file, index=False, float_format="%.4g", lineterminator="\n")
    print(table[COLUMNS].to_string(index=False))


if __name__ == "__main__":
    main()
