"""Faces as a table plus one memory-mapped array: selections, seeded batches, a pool whose labels nobody can reach."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd
import torch

from utils.config import ModelConfig, Profile
from utils.faces import crops
from utils.faces.encode import best
from utils.faces.ffpp import POOL

KEY = ["method", "video_id", "frame"]  # what the c23 and the c40 view of one frame have in common


class FaceSet:
    """Face crops with their labels: row i of `index` describes `pixels[index.row[i]]`.

    `index` has the columns of the face cache (split, quality, pair, video_id, frame, label, row, ...); `pixels` is a
    uint8 array (N, S, S, 3), usually memory-mapped. Selections share the pixels and copy nothing.
    """

    def __init__(self, index: pd.DataFrame, pixels: np.ndarray):
        if index.empty:
            raise ValueError("no face is left in this selection: check split, quality and pairs")
        self.index = index.reset_index(drop=True)
        self.pixels = pixels
        self.labels = torch.as_tensor(self.index["label"].to_numpy(dtype=np.int64, copy=True))
        self._rows = self.index["row"].to_numpy()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def qualities(self) -> list[str]:
        return sorted(self.index["quality"].unique())

    @property
    def clean(self) -> str:
        """The best quality that occurs here."""
        return best(self.qualities)

    @property
    def pairs(self) -> set[str]:
        """Identity pairs ("AAA_BBB", sorted) that occur here."""
        return set(self.index["pair"])

    def select(self, split=None, quality=None, pairs=None, every: int = 1) -> FaceSet:
        """Return the faces of one split (or several), of some qualities and pairs, of every n-th sampled frame of a clip.

        Raises ValueError where nothing is left.
        """
        keep = np.ones(len(self), dtype=bool)
        for column, wanted in (("split", split), ("quality", quality), ("pair", pairs)):
            if wanted is not None:
                keep &= self.index[column].isin([wanted] if isinstance(wanted, str) else list(wanted)).to_numpy()
        if every > 1:
            keep &= (self._places() % every == 0).to_numpy()
        return FaceSet(self.index[keep], self.pixels)

    def _places(self) -> pd.Series:
        """Return which of its clip's sampled frames each face is, from 1 on.

        Where all clips were sampled at the same frames, a face that was missed leaves the places of the others as they are;
        clips of different lengths have frames of their own.
        """
        frames = self.index["frame"]
        by_clip = frames.groupby([self.index[name] for name in ("method", "video_id", "quality")])
        same = frames.nunique() == by_clip.nunique().max()
        return (frames if same else by_clip).rank(method="dense").astype(int)

    def images(self, items) -> torch.Tensor:
        """Return the crops of some positions as uint8 (B, 3, S, S)."""
        return _images(self.pixels, self._rows[np.asarray(items)])

    @staticmethod
    def joined(parts: list[FaceSet]) -> FaceSet:
        """Return the faces of several sets in one, their pixels copied."""
        pixels = np.concatenate([part.pixels[part.index["row"]] for part in parts])
        return FaceSet(pd.concat([part.index for part in parts], ignore_index=True).assign(row=range(len(pixels))), pixels)

    def hide_labels(self, seed: int) -> UnlabelledFaces:
        """Return the same faces as a pool without labels; the clips are numbered in an order drawn with `seed`."""
        return UnlabelledFaces(_views(self.index, seed)[0], self.pixels)

    def fingerprint(self) -> str:
        """Return a checksum of the table and of up to 256 crops, to notice that a run's data have changed."""
        table = self.index[[*KEY, "quality", "split", "pair", "label"]].to_csv(index=False).encode()
        some = np.unique(np.linspace(0, len(self) - 1, min(len(self), 256)).astype(int))
        return f"{zlib.crc32(np.ascontiguousarray(self.pixels[self._rows[some]]), zlib.crc32(table)):08x}"


class UnlabelledFaces:
    """A pool of training faces without labels: item i is one frame of one clip, seen in one or more qualities.

    Neither label nor method is kept, nor the file name (which tells fakes from originals), and the order is drawn by
    seed: `clip` (N,) is a bare number. Only `images` and `view` lead to pixels.
    """

    def __init__(self, views: pd.DataFrame, pixels: np.ndarray):
        self.clip = views["clip"].to_numpy(copy=True)
        self.qualities = [name for name in views.columns if name != "clip"]
        self._rows = {quality: views[quality].to_numpy() for quality in self.qualities}
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def clean(self) -> str:
        """The best quality that the pool is seen in."""
        return best(self.qualities)

    def images(self, items, quality: str | None = None) -> torch.Tensor:
        """Return the crops of some items in one quality (the only one if not named) as uint8 (B, 3, S, S)."""
        if quality is None and len(self.qualities) > 1:
            raise ValueError(f"name the view: this pool has {', '.join(self.qualities)}")
        quality = quality or self.qualities[0]
        if quality not in self._rows:
            raise ValueError(f"this pool has no {quality} view, only {', '.join(self.qualities)}")
        return _images(self._pixels, self._rows[quality][np.asarray(items)])

    def fingerprint(self) -> str:
        """Return a checksum of the clips, of the places of their faces, and of up to 256 crops of each view."""
        table = pd.DataFrame({"clip": self.clip, **self._rows}).to_csv(index=False).encode()
        some = np.unique(np.linspace(0, len(self) - 1, min(len(self), 256)).astype(int))
        for quality in self.qualities:
            table += np.ascontiguousarray(self._pixels[np.sort(self._rows[quality][some])]).tobytes()
        return f"{zlib.crc32(table):08x}"

    def spread(self, frames: int) -> np.ndarray:
        """Return the items (M,) that are so many frames of each clip, spread over it."""
        _, starts, counts = np.unique(self.clip, return_index=True, return_counts=True)  # items stand clip by clip
        return np.concatenate([start + spread(frames, count) for start, count in zip(starts, counts, strict=True)])

    def some(self, items: np.ndarray) -> UnlabelledFaces:
        """Return a pool of these items alone, in their order."""
        rows = {quality: self._rows[quality][items] for quality in self.qualities}
        return UnlabelledFaces(pd.DataFrame({"clip": self.clip[items], **rows}), self._pixels)

    def view(self, quality: str) -> UnlabelledFaces:
        """Return the same items, in the same order, in one quality only."""
        if quality not in self._rows:
            raise ValueError(f"this pool has no {quality} view, only {', '.join(self.qualities)}")
        return UnlabelledFaces(pd.DataFrame({"clip": self.clip, quality: self._rows[quality]}), self._pixels)


def spread(some: int, count: int) -> np.ndarray:
    """Return so many of the places 0 .. count - 1, the middle of each equal part; all of them where there are fewer."""
    return np.unique(((np.arange(some) + 0.5) * count / some).astype(int))


def true_labels(faces: FaceSet, seed: int) -> np.ndarray:
    """Return the true labels (N,) of `faces.hide_labels(seed)`, item by item: to judge pseudo-labels after training."""
    return _views(faces.index, seed)[1]


def _views(index: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return one row a frame (clip number, array position per quality) in an order drawn by `seed`, and the labels."""
    if set(index["split"]) not in ({"train"}, {POOL}):
        splits = sorted(set(index["split"]))
        raise ValueError(f"a pool is drawn from the training split only, or from the study's pool, not from {splits}")
    views = index.pivot(index=KEY, columns="quality", values="row").dropna().astype(np.int64)
    if views.empty:
        raise ValueError("no frame has a face in every quality: select one quality first")
    labels = index.drop_duplicates(KEY).set_index(KEY)["label"].loc[views.index].to_numpy()
    codes, clips = pd.factorize(views.index.droplevel("frame"))
    number = np.random.default_rng(seed).permutation(len(clips))[codes]
    order = np.argsort(number, kind="stable")
    views = views.reset_index(drop=True).rename_axis(columns=None)
    views.insert(0, "clip", number)
    return views.iloc[order].reset_index(drop=True), labels[order]


def _images(pixels: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    order = np.argsort(rows, kind="stable")  # read the memory map front to back
    crops = np.empty((len(rows), *pixels.shape[1:]), dtype=np.uint8)
    crops[order] = pixels[rows[order]]
    return torch.from_numpy(crops).permute(0, 3, 1, 2)  # (B, 3, S, S)


def twins(index: pd.DataFrame) -> np.ndarray:
    """Return positions (n, 2) in a face table of each original and a fake of the same target, frame and quality.

    Raises ValueError where there is none.
    """
    rows = index[["target", "frame", "quality", "label"]].assign(position=np.arange(len(index)))
    both = rows[rows["label"] == 0].merge(rows[rows["label"] == 1], on=["target", "frame", "quality"])
    if both.empty:
        raise ValueError("no fake has its original beside it: train without twins")
    return both[["position_x", "position_y"]].to_numpy()


class Rounds:
    """Endless numbers 0 .. count - 1 in shuffled rounds: each is shown once before any is shown again."""

    def __init__(self, count: int, generator: torch.Generator):
        self.count, self.generator = count, generator
        self.order, self.cursor = torch.empty(0, dtype=torch.int64), 0

    def __next__(self) -> torch.Tensor:
        if self.cursor == len(self.order):  # drawn only when it is needed, as the generator serves others in between
            self.order, self.cursor = torch.randperm(self.count, generator=self.generator), 0
        self.cursor += 1
        return self.order[self.cursor - 1]

    def state_dict(self) -> dict:
        return {"order": self.order, "cursor": self.cursor}  # no copy: an order is never changed, only replaced

    def load_state_dict(self, state: dict) -> None:
        self.order, self.cursor = state["order"], state["cursor"]


class Batches:
    """Endless batches of positions: `each` times one of every group in turn, each group in shuffled rounds of its own.

    A row of a group, (n,) or (n, k), is one position, or k that stay together. What a stream has shown, and what it will show
    next, is its state; the generator's is kept by whoever owns it.
    """

    def __init__(self, groups: list[torch.Tensor], each: int, generator: torch.Generator):
        self.groups, self.each = groups, each
        self.rounds = [Rounds(len(group), generator) for group in groups]

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> torch.Tensor:
        pairs = list(zip(self.groups, self.rounds, strict=True))
        return torch.stack([group[next(rounds)] for _ in range(self.each) for group, rounds in pairs]).flatten()

    def state_dict(self) -> dict:
        return {"rounds": [rounds.state_dict() for rounds in self.rounds]}

    def load_state_dict(self, state: dict) -> None:
        for rounds, saved in zip(self.rounds, state["rounds"], strict=True):
            rounds.load_state_dict(saved)


def balanced_batches(labels: torch.Tensor, batch_size: int, generator: torch.Generator) -> Batches:
    """Return endless batches of positions (B,), half of each class, each class gone through in shuffled rounds.

    Raises ValueError where one class is missing or the batch size is odd.
    """
    if batch_size % 2:
        raise ValueError(f"batch size {batch_size} is odd: two classes in equal number need an even one")
    classes = [torch.nonzero(labels == value).flatten() for value in (0, 1)]
    if min(len(members) for members in classes) == 0:
        raise ValueError("only one class in the training faces: real and fake faces are both needed")
    return Batches(classes, batch_size // 2, generator)


def endless_batches(count: int, batch_size: int, generator: torch.Generator) -> Batches:
    """Return endless batches of positions 0 .. count - 1 (B,), in shuffled rounds."""
    return Batches([torch.arange(count)], batch_size, generator)


class CleanFirst:
    """Endless class-balanced batches of positions (B,), in the first part of the steps of the best quality alone.

    A network that starts from nothing finds the traces of a fake sooner where compression has not blurred them
    (curriculum learning, Bengio et al. 2009). `config.clean_first` is that part, 0 for none; `config.twins` has each
    fake follow its original.
    """

    def __init__(self, train: FaceSet, config: ModelConfig, generator: torch.Generator):
        self.first, self.drawn = round(config.clean_first * config.steps), 0
        clean = np.flatnonzero(train.index["quality"] == train.clean)
        self.clean = _batches(train, clean, config, generator) if self.first else None
        self.all = _batches(train, np.arange(len(train)), config, generator)

    def __iter__(self) -> CleanFirst:
        return self

    def __next__(self) -> torch.Tensor:
        self.drawn += 1
        return next(self.clean if self.drawn <= self.first else self.all)

    def state_dict(self) -> dict:
        return {"drawn": self.drawn, "all": self.all.state_dict()} | ({"clean": self.clean.state_dict()} if self.clean else {})

    def load_state_dict(self, state: dict) -> None:
        self.drawn = state["drawn"]
        self.all.load_state_dict(state["all"])
        if self.clean:
            self.clean.load_state_dict(state["clean"])


def _batches(train: FaceSet, items: np.ndarray, config: ModelConfig, generator: torch.Generator) -> Batches:
    """Return endless batches of some of the training faces: as many real as fake ones, with `config.twins` pair by pair."""
    if config.twins:
        pairs = torch.from_numpy(items[twins(train.index.iloc[items])])
        return Batches([pairs], config.batch_size // 2, generator)
    batches = balanced_batches(train.labels[torch.from_numpy(items)], config.batch_size, generator)
    batches.groups = [torch.from_numpy(items)[group] for group in batches.groups]
    return batches


def load_faces(profile: Profile) -> FaceSet:
    """Return every found face of the profile's cache; raise FileNotFoundError where notebook 02 has not run."""
    return FaceSet(*crops.load_crops(profile))
