"""What an instrument saw in a video, to be looked at: the video with boxes, scores and a time line, and a strip of faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from tqdm import tqdm

from utils.faces.decode import Picture, View, open_video
from utils.faces.encode import OPTIONS
from utils.faces.tracks import Watched
from utils.learn.augment import resize, to_float
from utils.learn.models import Detector
from utils.learn.packaged import Packaged
from utils.learn.verdicts import ABSTAINS, Verdict
from utils.paths import atomic
from utils.results.style import CLASS_COLORS, HEAT, ON_BOX, ON_PICTURE, PAGE, THRESHOLD_LINE, TIME_LINE, VERDICT_COLORS

LEAST_LINES, MOST_LINES = 360, 720  # px, height of annotated pictures
LINE, MARGIN = 22, 8  # px of the time line: a row a track, and around them
MOST_ROWS = 6  # tracks that get a row
MOST_COLUMNS = 8192  # px, width of annotated pictures: x264 takes twice as many, and no more
MOST_SECONDS = 300  # of a video that are annotated
CLOCK = Fraction(1, 1000)  # s, ticks of annotated videos without a constant rate
QUICK = {"crf": "20", "preset": "veryfast"}  # how they are encoded
SHOWN = 6  # faces of a track in the strip


# ---- the video ------------------------------------------------------------------------------------------------------------


def annotate(seen: Watched, verdicts: Sequence[Verdict], path: Path, progress: str = "") -> Path:
    """Write the video again (H.264), boxes and probabilities drawn in, and below it a time line with a row a track.

    Its first `MOST_SECONDS`; boxes move evenly between two sampled pictures. A video that breaks off ends there. Pictures of
    another size than `seen.shape` are stretched to it.
    """
    height, width = seen.shape
    factor = min(np.clip(1.0, LEAST_LINES / height, MOST_LINES / height), MOST_COLUMNS / width)
    size = tuple(max(2, round(side * factor) // 2 * 2) for side in (width, height))
    strip = TimeLine(seen, verdicts, size[0])
    steady, last = seen.is_steady, -1
    count = (min(seen.packets, round(MOST_SECONDS * seen.fps)) if steady else seen.packets) or 1
    with atomic(path) as temporary, av.open(str(temporary), "w", format="mp4") as written:
        rate = Fraction(seen.fps).limit_denominator(1001)
        stream = written.add_stream("libx264", rate=rate, options=OPTIONS["libx264"] | QUICK)
        stream.width, stream.height, stream.pix_fmt = size[0], size[1] + strip.height, "yuv420p"
        if not steady:
            stream.codec_context.time_base = CLOCK
        for number, picture in tqdm(_pictures(seen, count), progress, count, leave=False, disable=not progress, unit="frame"):
            factors = [factor * (side / own) for side, own in zip((width, height), picture.shape[::-1], strict=True)]
            shown = cv2.resize(picture.rgb, size, interpolation=cv2.INTER_AREA if min(factors) < 1 else cv2.INTER_LINEAR)
            canvas = Image.fromarray(np.concatenate([shown, strip.at(number)]))
            _draw_boxes(ImageDraw.Draw(canvas), verdicts, number, factors)
            frame = av.VideoFrame.from_ndarray(np.asarray(canvas), format="rgb24")
            if not steady:
                last = max(last + 1, round(seen.shown_at(number, picture) / CLOCK))
                if last > MOST_SECONDS / CLOCK:
                    break
                frame.pts, frame.time_base = last, CLOCK
            written.mux(stream.encode(frame))
        written.mux(stream.encode())
    return path


def _pictures(seen: Watched, count: int) -> Iterator[tuple[int, Picture]]:
    """Yield the first pictures of a video, as far as they decode."""
    try:
        with open_video(seen.path) as (container, stream):
            view = View.of(seen.path, stream)
            for number, frame in enumerate(container.decode(stream)):
                if number == count:
                    return
                yield number, Picture(frame, view)
    except ValueError:
        return  # it breaks off here, as `seen` says


def _draw_boxes(draw: ImageDraw.ImageDraw, verdicts: Sequence[Verdict], number: int, factors: Sequence[float]) -> None:
    for one in verdicts:
        box = box_at(one, number)
        if box is not None:
            color = VERDICT_COLORS[one.verdict]
            x0, y0, x1, y1 = (float(side) * factor for side, factor in zip(box, (*factors, *factors), strict=True))
            draw.rectangle((x0, y0, x1, y1), outline=color, width=3)
            text = label(one)
            left, top, right, bottom = draw.textbbox((x0, y0), text, font=FONT)
            lift = min(y0, bottom - top + 6)  # above the box, or inside it at the upper edge
            draw.rectangle((x0, y0 - lift, x0 + right - left + 8, y0 - lift + bottom - top + 6), fill=color)
            draw.text((x0 + 4, y0 - lift + 3 - (top - y0)), text, fill=ON_BOX, font=FONT)


def label(one: Verdict) -> str:
    """Return "1: fake .97", or "1: abstains" for somebody of whom no probability may be given."""
    return f"{one.number}: {one.verdict}" + ("" if one.verdict == ABSTAINS else f" {one.opinion.probability:.2f}")


def box_at(one: Verdict, number: int) -> np.ndarray | None:
    """Return where a track's square (4,) in px is at a picture, between two sampled ones on the way; None where it isn't."""
    frames = np.array(one.track.frames)
    step = int(np.median(np.diff(frames))) if len(frames) > 1 else 1
    after = int(np.searchsorted(frames, number))
    if after < len(frames) and frames[after] == number:
        return np.array(one.track.squares[after], float)
    if after == 0 or (after == len(frames) and number - frames[-1] >= step):
        return None
    if after == len(frames):
        return np.array(one.track.squares[-1], float)
    before, part = frames[after - 1], (number - frames[after - 1]) / (frames[after] - frames[after - 1])
    if frames[after] - before > 3 * step:
        return None  # it was away
    first, last = (np.array(one.track.squares[place], float) for place in (after - 1, after))
    return (1 - part) * first + part * last


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


FONT = _font(14)


class TimeLine:
    """A band below the picture: when each track was seen, each face in a colour between real's and fake's, and where we are."""

    def __init__(self, seen: Watched, verdicts: Sequence[Verdict], width: int):
        self.frames, self.width, shown = max(1, seen.packets), width, verdicts[:MOST_ROWS]
        self.height = (2 * MARGIN + LINE * max(1, len(shown)) + 1) // 2 * 2
        self.left = min(130, width // 3)
        canvas = Image.new("RGB", (width, self.height), TIME_LINE["ground"])
        draw = ImageDraw.Draw(canvas)
        for row, one in enumerate(shown):
            top = MARGIN + LINE * row
            draw.text((MARGIN, top + 2), label(one), fill=TIME_LINE["text"], font=_font(12))
            for frame, score in zip(one.track.frames, one.opinion.scores, strict=True):
                step = np.diff(one.track.frames).min(initial=seen.packets) if one.found > 1 else 1
                left = self.x(frame)
                right = min(self.x(self.frames), max(left + 2, self.x(frame + step)))
                draw.rectangle((left, top + 3, right, top + LINE - 5), fill=_mix(score, one.verdict))
        if not shown:
            draw.text((MARGIN, MARGIN), "no face found", fill=TIME_LINE["text"], font=FONT)
        for cut in seen.cuts:
            draw.line((self.x(cut), MARGIN, self.x(cut), self.height - MARGIN), fill=TIME_LINE["text"], width=1)
        self.band = np.asarray(canvas)

    def x(self, frame: float) -> int:
        """Return the column of a picture."""
        return round(self.left + (self.width - self.left - MARGIN) * frame / self.frames)

    def at(self, frame: int) -> np.ndarray:
        """Return the band with a mark at a picture, uint8 RGB (height, width, 3)."""
        band = self.band.copy()
        band[MARGIN // 2 : -MARGIN // 2, self.x(frame) : self.x(frame) + 2] = TIME_LINE["mark"]
        return band


def _mix(score: float, verdict: str) -> tuple[int, ...]:
    """Return the colour of a face's score: from real's to fake's, grey where the instrument abstains."""
    if verdict == ABSTAINS:
        first, span = TIME_LINE["greys"]
        return tuple(round(first + span * float(score)) for _ in range(3))
    ends = (np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) for color in CLASS_COLORS.values())
    real, fake = ends
    return tuple(int(value) for value in (1 - score) * real + score * fake)


# ---- the strip ------------------------------------------------------------------------------------------------------------


def strip(verdicts: Sequence[Verdict], model: Packaged, seen: Watched) -> Figure:
    """Show each track's most suspicious faces, and below them what in them speaks for fake (Grad-CAM).

    Of a track that the instrument abstains from the faces alone: what speaks for fake there means nothing.
    """
    shown = sorted(verdicts, key=lambda one: -one.opinion.score)[:MOST_ROWS]
    if not shown:
        fig = plt.figure(figsize=(PAGE, 0.5))
        fig.suptitle(f"no face found in {len(seen.sampled)} sampled pictures")
        return fig
    rows = [1 if one.opinion.reasons else 2 for one in shown]
    heights = [0.35 + PAGE / SHOWN * count for count in rows]
    fig = plt.figure(figsize=(PAGE, sum(heights)))
    parts = fig.subfigures(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for one, part, count in zip(shown, parts, rows, strict=True):
        part.suptitle(f"face {sentence(one)}", x=0.01, ha="left", fontsize="small", color=VERDICT_COLORS[one.verdict])
        axes = part.subplots(count, SHOWN, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
        for ax in axes.flat:
            ax.set_axis_off()
        worst = np.argsort(-one.opinion.scores, kind="stable")[:SHOWN]
        crops = np.stack([one.track.crops[place] for place in worst])
        for ax, crop, place in zip(axes[0], crops, worst, strict=False):
            ax.imshow(crop)
            seconds = seen.times[one.track.frames[place]]
            ax.text(0.03, 0.04, f"{seconds:.1f} s", transform=ax.transAxes, fontsize="x-small", **ON_PICTURE)
        if count == 2:
            for ax, crop, seen_there in zip(axes[1], crops, attention(model.model, crops), strict=False):
                ax.imshow(crop)
                ax.imshow(seen_there, **HEAT)
    return fig


def sentence(one: Verdict) -> str:
    """Return "1: fake, 0.97 [0.91, 0.99]", or "1: abstains" and the first reason."""
    found = one.opinion
    if found.reasons:
        return f"{one.number}: abstains: {found.reasons[0]}"
    return f"{one.number}: {found.verdict}, P(fake) {found.probability:.2f} [{found.low:.2f}, {found.high:.2f}]"


def attention(model: Detector, crops: np.ndarray) -> np.ndarray:
    """Return maps (N, S, S) in [0, 1] of what in crops, uint8 (N, S, S, 3), speaks for fake.

    Grad-CAM (Selvaraju et al. 2017), each map scaled to its own greatest.
    """
    images = to_float(torch.from_numpy(crops).permute(0, 3, 1, 2))
    layer = last_maps(model)
    needs = [parameter.requires_grad for parameter in model.parameters()]
    try:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        with GradCAM(model, [layer]) as cam:
            small = cam(resize(images, model.px), [ClassifierOutputTarget(1)] * len(crops))
    finally:
        for parameter, need in zip(model.parameters(), needs, strict=True):
            parameter.requires_grad_(need)
    return np.stack([cv2.resize(one, crops.shape[1:3]) for one in small])


@torch.no_grad()
def last_maps(model: Detector) -> torch.nn.Module:
    """Return the last layer of a network whose output still has a height and a width of more than one."""
    found, hooks = [], []

    def look(module, inputs, output) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            found.append(module)

    leaves = [module for module in model.network.modules() if not any(module.children())]
    try:
        hooks = [module.register_forward_hook(look) for module in leaves]
        model(torch.zeros(1, 3, model.px, model.px))
    finally:
        for hook in hooks:
            hook.remove()
    return found[-1]


def time_line(seen: Watched, verdicts: Sequence[Verdict]) -> Figure:
    """Plot what the network gives of each face over time; dots are faces, a line a track."""
    fig, ax = plt.subplots(figsize=(PAGE, 2.2))
    for one in verdicts[:MOST_ROWS]:
        seconds = [seen.times[frame] for frame in one.track.frames]
        scores = one.opinion.scores
        ax.plot(seconds, scores, "o-", markersize=3, color=VERDICT_COLORS[one.verdict], label=label(one))
        ax.annotate(str(one.number), (seconds[-1], scores[-1]), (4, 0), textcoords="offset points", fontsize="small")
    for cut in seen.cuts:
        ax.axvline(seen.times[cut], **THRESHOLD_LINE)
    ax.set(xlabel="seconds (dashed: cuts)", ylabel="score of a face", ylim=(-0.03, 1.03))
    if verdicts:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig
