"""Whether each square lies on the face that its clip is about: the mask of what was changed says where that face is.

A clip's label is about one person. Where another stands beside, a detector may follow that one, and a bystander is then learned
or judged under a label that is not theirs. `config.masks` avoids it where it is on; here it is counted.
"""

from __future__ import annotations

from contextlib import suppress

import joblib
import numpy as np
import pandas as pd

from utils.faces.cache import BOX
from utils.faces.decode import pictures_at
from utils.faces.detect import WHITE, masked_area
from utils.results.tables import WRONG_FACES

CLIP = ["method", "quality", "video_id"]  # names one clip
LEAST = 0.1  # share of a mask's white below which a square lies on another face


def shares(faces: pd.DataFrame, index: pd.DataFrame, n_jobs: int = 1) -> pd.Series:
    """Return which share of its frame's mask each face's square holds, in [0, 1], by the rows of `faces`.

    `faces` has method, quality, video_id, frame and the square (px), `index` the path of each clip's mask (`ffpp.load_index`).
    NaN where there is no mask, where it can't be read or is shorter than the clip, and where nothing in it is white. Masks have
    the size of their clips, as in FaceForensics++.
    """
    paths = faces[CLIP].merge(index[[*CLIP, "mask"]], how="left", on=CLIP)["mask"].fillna("").to_numpy()
    parts = [(path, part) for path, part in faces.groupby(paths) if path]
    share = pd.Series(np.nan, faces.index)
    for found in joblib.Parallel(n_jobs)(joblib.delayed(_shares_of)(path, part) for path, part in parts):
        share[found.index] = found
    return share


def _shares_of(path: str, faces: pd.DataFrame) -> pd.Series:
    held, by_frame = {}, dict(list(faces.groupby("frame")))
    with suppress(ValueError, OSError):  # what is damaged is told by `python -m utils.faces.ffpp`; here it is not known
        for number, picture in pictures_at(path, sorted(by_frame)):
            luma, some = picture.luma, by_frame[number]
            if white := int((luma >= WHITE).sum()):
                held |= dict(zip(some.index, masked_area(some[BOX].to_numpy(float), luma, luma.shape) / white, strict=True))
    return pd.Series(held, dtype=float)


def wrong_faces(faces: pd.DataFrame, share: pd.Series) -> pd.DataFrame:
    """Return how many squares lie on another face, one row a split and quality.

    Columns split, quality, faces (those whose `share` is known), wrong, clips, wholly (clips whose every face is wrong), and
    these clips' names, "method/video_id", with blanks between.
    """
    known = faces.assign(wrong=share < LEAST)[share.notna()]
    rows = []
    for (split, quality), part in known.groupby(["split", "quality"]):
        wholly = part.groupby(["method", "video_id"])["wrong"].all()
        names = " ".join("/".join(name) for name in wholly[wholly].index)
        rows.append((split, quality, len(part), part["wrong"].sum(), len(wholly), wholly.sum(), names))
    return pd.DataFrame(rows, columns=WRONG_FACES)
