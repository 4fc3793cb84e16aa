"""The page of `make app`: somebody drops a video, and gets verdicts, the annotated video, faces and a time line.

It is the widget of notebook 09, served by Voilà on this machine alone; nothing leaves it. A video is written to a temporary
folder, whose files are removed when they have been shown.
"""

from __future__ import annotations

import html
import io
import os
import tempfile
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
from IPython.display import Markdown

from utils.faces.video import probe
from utils.learn.packaged import Packaged
from utils.results.footage import time_line
from utils.results.style import VERDICT_COLORS
from utils.run import score

MOST_BYTES = 100 * 2**20
MOST_SECONDS = 600
MOST_PICTURES = 300  # that are searched: a minute at every 5th, or as many spread over a longer video
UPLOADS = "in"  # folder of the uploaded file, beside that of what is written: a file may have any name
IN_BATCH = "NOTEBOOKS_IN_BATCH"  # set where nobody is there to drop a video
PRIORS = {"as likely as not": 0.5, "one in ten": 0.1, "one in a hundred": 0.01, "one in a thousand": 0.001}


def page(model: Packaged):
    """Return the widget; in a batch run, which has nobody to use it, a line on how to open it."""
    if os.environ.get(IN_BATCH):
        return Markdown("*(`make app` opens this notebook as a page, with a field for your video here.)*")
    upload = widgets.FileUpload(accept="video/*,image/*", multiple=False, description="a video or an image")
    upload.layout.width = "220px"
    prior = widgets.Dropdown(options=PRIORS, value=0.5, description="fake beforehand", style={"description_width": "110px"})
    told = widgets.HTML(f"up to {MOST_BYTES // 2**20} MB and {MOST_SECONDS // 60} minutes; it stays on this machine")
    results = widgets.VBox()

    def look(change) -> None:
        if change["new"]:
            (file,) = upload.value
            results.children = ()
            told.value = f"looking at {html.escape(file['name'])} ..."
            told.value, results.children = answer(file["name"], bytes(file["content"]), model, prior.value)
            upload.value = ()

    upload.observe(look, "value")
    return widgets.VBox([widgets.HBox([upload, prior]), told, results])


def answer(name: str, content: bytes, model: Packaged, prior: float = 0.5) -> tuple[str, tuple[widgets.Widget, ...]]:
    """Return what is said of an uploaded file, as HTML, and what is shown of it; never raises for what is in it."""
    with tempfile.TemporaryDirectory(prefix="score-") as folder:
        try:
            return _answer(name, content, model, prior, Path(folder))
        except Exception as error:  # even a mistake of ours: nobody sees a traceback on the page
            return f"<b>{html.escape(score.why(error, name).replace(f'{folder}/{UPLOADS}/', ''))}</b>", ()


def _answer(name: str, content: bytes, model: Packaged, prior: float, folder: Path) -> tuple[str, tuple[widgets.Widget, ...]]:
    if len(content) > MOST_BYTES:
        raise ValueError(f"{name} has {len(content) / 2**20:.0f} MB: give one of at most {MOST_BYTES // 2**20}")
    path = folder / UPLOADS / (Path(name).name[-100:].replace("\0", "") or "video")
    path.parent.mkdir()
    path.write_bytes(content)
    if (seconds := probe(path)["seconds"]) > MOST_SECONDS:
        raise ValueError(f"{name} lasts {seconds / 60:.0f} minutes: give one of at most {MOST_SECONDS // 60}")
    seen, verdicts = score.score(path, model, prior, MOST_PICTURES)
    out = folder / "out"
    score.write(seen, verdicts, model, out, prior, progress=False)
    fig = time_line(seen, verdicts)
    picture = io.BytesIO()
    fig.savefig(picture, format="png")
    plt.close(fig)
    shown: list[widgets.Widget] = [
        widgets.Video(value=(out / score.ANNOTATED).read_bytes(), format="mp4", autoplay=False, loop=False, width="480"),
        widgets.Image(value=picture.getvalue(), format="png", width="760"),
        widgets.Image(value=(out / score.FACES).read_bytes(), format="png", width="760"),
    ]
    return "<br>".join(_colored(seen, verdicts)), tuple(shown)


def _colored(seen, verdicts) -> list[str]:
    """Return the printed lines as HTML, each track's in the colour of its verdict."""
    colors = [VERDICT_COLORS[one.verdict] for one in verdicts]
    lines = [line.partition(f"{seen.path}: ")[2] for line in score.lines(seen, verdicts)]
    colors += ["inherit"] * (len(lines) - len(colors))
    return [f'<span style="color:{color}">{html.escape(line)}</span>' for color, line in zip(colors, lines, strict=True)]
