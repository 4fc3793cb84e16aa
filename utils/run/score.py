"""Score anyone's videos or images: one line a person and shot, fake, real, or that the instrument abstains and why.

    python -m utils.run.score VIDEO... [--out DIR] [--model NAME] [--prior 0.01] [--most 600] [--schema]
    make score VIDEO=clip.mp4

With `--out`, a folder a video: `annotated.mp4` (boxes, verdicts, a time line), `faces.png` (each track's most suspicious faces
and what in them speaks for fake), `score.json` (`--schema` prints its JSON Schema). The model that comes with the repository
has seen rendered faces alone: on footage of real people it abstains. `--model` takes a folder that `utils.run.package` or
`utils.run.train_on` has written.

Exit code: 0 if all faces are real, 1 if one is fake, 3 if one is abstained of (and none fake) or there is none, 2 if a file
can't be read or anything else fails. Where several hold, the first of 2, 1, 3, 0.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from utils.config import SHIPPED
from utils.faces.tracks import Watched, watch
from utils.learn.packaged import Packaged, load_packaged, packaged_folder
from utils.learn.verdicts import ABSTAINS, FAKE, Verdict, judge
from utils.paths import write_json

SCHEMA = Path(__file__).with_name("score.schema.json")
VERSION = 1  # of score.json; a field that is renamed, removed or changes its meaning makes another
MOST = 600  # pictures of a video that are searched: two minutes at every 5th
ALL_REAL, SOME_FAKE, UNREADABLE, ABSTAINED = 0, 1, 2, 3
ANNOTATED, FACES, RECORD = "annotated.mp4", "faces.png", "score.json"


def score(path: Path | str, model: Packaged, prior: float = 0.5, most: int = MOST, progress: bool = False) -> tuple:
    """Return what was seen of a video (`Watched`) and the verdicts on its tracks. Raises what `watch` and `judge` raise."""
    seen = watch(path, model.faces, most, progress=f"faces of {Path(path).name}" if progress else "")
    return seen, judge(seen, model, prior)


def record(seen: Watched, verdicts: Sequence[Verdict], model: Packaged, prior: float = 0.5) -> dict:
    """Return what `score.json` holds: plain values in the order of the schema."""
    height, width = seen.shape
    return {
        "schema": VERSION,
        "video": {
            "name": seen.path.name, "width": width, "height": height, "fps": round(seen.fps, 3),
            "frames": seen.packets, "frames_promised": seen.promised, "frames_asked": seen.asked,
            "frames_sampled": len(seen.sampled), "frames_corrupt": seen.corrupt, "cuts": seen.cuts, "stopped": seen.stopped,
        },
        "model": {
            "name": model.name, "network": model.card["network"], "trained_on": model.card["trained_on"],
            "sha256": model.card["sha256"], "validated": model.card["validated"],
        },
        "prior": prior,
        "tracks": [_track(one, seen) for one in verdicts],
    }  # fmt: skip


def _track(one: Verdict, seen: Watched) -> dict:
    found, frames = one.opinion, one.track.frames
    return {
        "number": one.number, "verdict": one.verdict, "reasons": list(found.reasons),
        "probability": _short(found.probability), "interval": [_short(found.low), _short(found.high)],
        "score": _short(found.score), "frames_found": one.found, "frames_sampled": one.sampled,
        "seconds": [round(seen.times[frames[0]], 2), round(seen.times[frames[-1]], 2)],
        "crf": round(found.crf, 1), "side": round(found.side, 1),
        "distance": _short(found.distance), "distance_limit": _short(found.limit),
        "faces": [
            {"frame": frame, "square": list(square), "score": _short(value)}
            for frame, square, value in zip(frames, one.track.squares, found.scores, strict=True)
        ],
    }  # fmt: skip


def _short(value: float) -> float:
    return round(float(value), 5)


def lines(seen: Watched, verdicts: Sequence[Verdict]) -> list[str]:
    """Return what is printed of a video: a line a track, and one on what could not be seen of it."""
    told = [_line(one, seen) for one in verdicts] or [f"no face found in {len(seen.sampled)} sampled pictures"]
    if seen.corrupt:
        told.append(f"{len(seen.corrupt)} of {seen.asked} sampled pictures are damaged and were passed over")
    if not seen.stopped and (lost := seen.asked - len(seen.sampled) - len(seen.corrupt)):
        told.append(f"{lost} of {seen.asked} sampled pictures could not be decoded")
    if seen.promised > seen.packets:
        told.append(f"the file promises {seen.promised} pictures and holds {seen.packets}")
    if seen.stopped:
        told.append(f"not looked at to its end: {seen.stopped}")
    return [f"{_printable(seen.path)}: {text}" for text in told]


def _printable(text: Path | str) -> str:
    """Return a text without what moves a cursor or colours a screen; bytes that are no text are left to the stream."""
    return "".join(one if one.isprintable() or "\ud800" <= one < "\ue000" else "?" for one in str(text))


def _line(one: Verdict, seen: Watched) -> str:
    found, (first, last) = one.opinion, (seen.times[one.track.frames[place]] for place in (0, -1))
    where = f"face {one.number}, {first:.1f} to {last:.1f} s, in {one.found} of {one.sampled} sampled pictures"
    about = f"{found.side:.0f} px, compressed like CRF {found.crf:.0f}"
    if found.reasons:  # what it would have said is withheld: who reads it would take it for a verdict
        return f"{where} ({about}): abstains: {'; '.join(found.reasons)}"
    return f"{where}: {one.verdict}, P(fake) {found.probability:.2f} [{found.low:.2f}, {found.high:.2f}] ({about})"


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return the exit code of one video, or of several that could be read."""
    kinds = {one.verdict for one in verdicts} or {ABSTAINS}
    return SOME_FAKE if FAKE in kinds else ABSTAINED if ABSTAINS in kinds else ALL_REAL


def write(seen: Watched, verdicts: Sequence[Verdict], model: Packaged, folder: Path, prior: float, progress: bool) -> None:
    """Write a video's three files into its folder."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from utils.results.footage import annotate, strip  # takes a second
    from utils.results.style import save_figure

    write_json(folder / RECORD, record(seen, verdicts, model, prior))
    fig = strip(verdicts, model, seen)
    save_figure(fig, folder / FACES)
    plt.close(fig)  # one a video, and on the page one a visit, would stay in memory
    annotate(seen, verdicts, folder / ANNOTATED, progress=f"writing {ANNOTATED}" if progress else "")


def folders(videos: Sequence[Path], out: Path) -> list[Path]:
    """Return a folder for each video within `out`, named like it; videos of one name get a number."""
    names: list[str] = []
    for video in videos:
        stem = video.stem.strip(".") or "video"  # "...mp4" must not become "..", the folder above
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}_{number}"
        names.append(name)
    return [out / name for name in names]


def why(error: Exception, name: Path | str) -> str:
    """Return what is wrong with a file: foreseen errors name it, others do not."""
    return str(error) if isinstance(error, (ValueError, OSError)) else f"{name}: {type(error).__name__} {error}"


def _told(error: Exception, name: Path | str = "") -> str:
    return _printable(" ".join(f"error: {why(error, name)}".split()))  # a line, whatever stands in names


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.run.score", description="Score videos or images, person by person.")
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument("--out", type=Path, help="folder to write annotated video, faces and JSON into")
    parser.add_argument("--model", default=SHIPPED, help=f"packaged model: its folder or its name (default: {SHIPPED})")
    parser.add_argument("--prior", type=float, default=0.5, help="chance of fake before anybody looked (default: 0.5)")
    parser.add_argument("--most", type=int, default=MOST, help=f"pictures of a video to search at most (default: {MOST})")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of score.json")
    arguments = parser.parse_args(argv)
    if arguments.schema:
        print(SCHEMA.read_text(encoding="utf-8"), end="")
        return 0
    if not arguments.videos or arguments.most < 1 or not 0 < arguments.prior < 1:
        parser.error("give a video, --most of at least 1, and a --prior between 0 and 1")
    try:
        model = load_packaged(packaged_folder(arguments.model))
    except (ValueError, OSError) as error:
        parser.exit(UNREADABLE, f"{_told(error)}\n")
    for stream in (sys.stdout, sys.stderr):  # a name may hold what is no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    loud, codes = sys.stderr.isatty() and not os.environ.get("TQDM_DISABLE"), []
    for video, folder in zip(arguments.videos, folders(arguments.videos, arguments.out or Path()), strict=True):
        try:
            seen, verdicts = score(video, model, arguments.prior, arguments.most, loud)
            print("\n".join(lines(seen, verdicts)), flush=True)
            codes.append(exit_code(verdicts))
            if arguments.out:
                write(seen, verdicts, model, folder, arguments.prior, loud)
        except Exception as error:  # even a mistake of ours: a traceback exits with 1, as fakes do, and ends the others
            print(_told(error, video), file=sys.stderr, flush=True)
            codes.append(UNREADABLE)
    return next(code for code in (UNREADABLE, SOME_FAKE, ABSTAINED, ALL_REAL) if code in codes)


if __name__ == "__main__":
    sys.exit(main())
