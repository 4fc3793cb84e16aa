"""Where the packaged network looks: how much of what speaks for fake (Grad-CAM) lies where a fake was changed.

    python -m utils.checks.where_it_looks [--out FILE]

Of each test clip of SynthFF, some faces at c23 and c40; the mask is the fake's own. Two controls: real clips with the mask of
the fake that shows the same person at the same frame, where nothing was changed, and the same network with weights drawn anew
(Adebayo et al. 2018: a map that stays as it is then tells nothing of what was learned). Needs the faces of the profile
`shipped` (`utils.run.extract`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from utils.config import SHIPPED, ModelConfig, Profile, get_profile
from utils.faces import ffpp
from utils.faces.cache import BOX
from utils.faces.crops import crop_face
from utils.faces.video import frames_at
from utils.learn.dataset import FaceSet, load_faces, spread
from utils.learn.inference import looks
from utils.learn.models import Detector, create_model
from utils.learn.packaged import Packaged, load_packaged, packaged_folder
from utils.learn.scores import over_clip
from utils.learn.verdicts import opinion
from utils.paths import WHERE_IT_LOOKS, atomic
from utils.results.footage import attention, last_maps
from utils.results.where_it_looks import COLUMNS, RANDOM, SPLIT, TRAINED

FRAMES = 5  # of a clip, spread over it
DRAWS = 5  # of random weights: one network may look anywhere by chance
WHITE = 127  # grey level above which a mask says that a pixel was changed
CLIP = ["quality", "method", "video_id"]


# ---- shares ---------------------------------------------------------------------------------------------------------------


def inside(heat: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share (N,) of each map's heat, (N, S, S) from 0 upwards, that lies in its bool mask (N, S, S).

    NaN for a map without any heat. Raises ValueError where maps and masks differ in shape.
    """
    if heat.shape != masks.shape:
        raise ValueError(f"maps {heat.shape} and masks {masks.shape} differ in shape")
    total = heat.sum(axis=(1, 2), dtype=float)
    return np.divide((heat * masks).sum(axis=(1, 2), dtype=float), total, out=np.full(len(total), np.nan), where=total > 0)


def cells_of(model: Detector, size: int) -> np.ndarray:
    """Return the maps (C, S, S) of a network whose heat lies in one cell of its last layer alone, one a cell.

    Grad-CAM enlarges a few cells to the picture; every map is a sum of these, so none has a greater share inside a mask than
    the best of them.
    """
    shapes = []
    hook = last_maps(model).register_forward_hook(lambda module, inputs, output: shapes.append(output.shape[2:]))
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, model.px, model.px))
    finally:
        hook.remove()
    height, width = shapes[0]
    single = np.eye(height * width, dtype=np.float32).reshape(-1, height, width)
    return np.stack([cv2.resize(cv2.resize(one, (model.px, model.px)), (size, size)) for one in single])


def most_inside(cells: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the greatest share (N,) that a map made of `cells` (C, S, S) can have in each bool mask (N, S, S)."""
    shares = np.tensordot(masks.astype(float), cells, axes=([1, 2], [1, 2])) / cells.sum(axis=(1, 2), dtype=float)
    return shares.max(axis=1)


# ---- masks and networks ---------------------------------------------------------------------------------------------------


def masks_of(path: str, faces: pd.DataFrame, size: int) -> np.ndarray:
    """Return where a mask video is white in each face of a clip, bool (n, size, size), cut out as the face was.

    `faces` has a row a face: frame and the square (px). Raises ValueError where there is no mask, or it is shorter than the
    clip, and what `frames_at` raises.
    """
    if not path:
        raise ValueError(f"no mask for {faces['video_id'].iloc[0]}: its tree needs the masks of the fakes (`make synthff`)")
    frames = frames_at(path, set(faces["frame"]))
    if missing := set(faces["frame"]) - set(frames):
        raise ValueError(f"{path} has no frame {min(missing)}: download or build it again")
    rows = faces[["frame", *BOX]].itertuples(index=False, name=None)
    return np.stack([crop_face(frames[number], square, size, quick=True)[..., 0] > WHITE for number, *square in rows])


def drawn_anew(model: Detector, seed: int) -> Detector:
    """Return a network of the same kind and input side, every layer with random start weights."""
    return create_model(model.name, ModelConfig(px=model.px, weights="none"), seed).eval()


# ---- clips ----------------------------------------------------------------------------------------------------------------


def look(
    crops: np.ndarray, sides: np.ndarray, masks: np.ndarray, model: Packaged, others: Sequence[Detector], cells: np.ndarray
) -> list[dict]:
    """Return a row of one clip for the packaged network and one for each of `others`: means over its faces.

    `crops`, uint8 (n, S, S, 3), were cut out of squares of so many px (n,); `masks` (n, S, S). `energy`, `area` and `most` are
    means over the faces whose map has any heat, `maps` of them, where there are some; `probability` is the instrument's,
    whether or not it would abstain.
    """
    found, images, most = opinion(crops, sides, model), torch.from_numpy(crops).permute(0, 3, 1, 2), most_inside(cells, masks)
    rows = [{"network": TRAINED, "draw": 0, "score": found.score, "probability": found.probability}]
    clip = np.zeros(len(crops), dtype=int)
    rows += [{"network": RANDOM, "draw": draw, "score": over_clip(looks(other, images)[0], clip)[0]}
             for draw, other in enumerate(others)]  # fmt: skip
    for row, network in zip(rows, [model.model, *others], strict=True):
        shares = inside(attention(network, crops), masks)
        warm = np.isfinite(shares)
        some = warm if warm.any() else ~warm
        row |= {"frames": len(crops), "maps": warm.sum(), "energy": shares[some].mean()}
        row |= {"area": masks[some].mean(), "most": most[some].mean()}
    return rows


def look_at_all(model: Packaged, faces: FaceSet, masks: pd.Series) -> pd.DataFrame:
    """Return the rows of all clips, columns `COLUMNS`; `masks` is the path of each clip's mask by `CLIP`."""
    others, rows = [drawn_anew(model.model, seed) for seed in range(DRAWS)], []
    size = faces.pixels.shape[1]
    cells = cells_of(model.model, size)
    for key, clip in tqdm(faces.index.groupby(CLIP), desc="where it looks", unit="clip", disable=None):
        some = clip.iloc[spread(FRAMES, len(clip))]
        crops = faces.images(some.index).permute(0, 2, 3, 1).numpy()
        found = look(crops, (some["x1"] - some["x0"]).to_numpy(), masks_of(masks[key], some, size), model, others, cells)
        about = some.iloc[0][["quality", "split", "pair", "video_id", "label"]].to_dict()
        rows += [about | row for row in found]
    table = pd.DataFrame(rows)[list(COLUMNS)].sort_values(["draw", "quality", "label", "video_id"], kind="stable")
    return pd.concat([table[table["network"] == network] for network in (TRAINED, RANDOM)], ignore_index=True)


def mask_paths(profile: Profile) -> pd.Series:
    """Return the path of each clip's mask by `CLIP`: a fake's own, a real's that of a fake which shows the same person."""
    return ffpp.load_index(profile).set_index(CLIP)["mask"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.checks.where_it_looks", description="Where does a network look?")
    parser.add_argument("--out", type=Path, default=WHERE_IT_LOOKS)
    arguments = parser.parse_args(argv)
    profile = get_profile("shipped")
    try:
        model = load_packaged(packaged_folder(SHIPPED))
        table = look_at_all(model, load_faces(profile).select(split=SPLIT), mask_paths(profile))
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    with atomic(arguments.out) as path:
        table.to_csv(path, index=False, float_format="%.4g", lineterminator="\n")
    print(table.groupby(["network", "quality", "label"], sort=False)[["energy", "area", "most"]].mean().round(3))


if __name__ == "__main__":
    main()
