"""A small static site for readers without Python: the findings, the notebooks, the report, a gallery, and the quiz.

    python -m utils.run.site [--out build/site]

Everything comes from what is committed; pages load nothing from elsewhere and need no server.
"""

from __future__ import annotations

import argparse
import html
import re
from pathlib import Path

import mistune
import nbformat
from nbconvert import HTMLExporter
from tqdm import tqdm

from utils.checks.quiz import write_quiz
from utils.config import Profile, get_profile
from utils.paths import ROOT, atomic, copy
from utils.results import (
    claims,
    practice_plots,
    report,
    study_plots,
    unlabelled_plots,
    where_it_looks_plots,
    without_fakes_plots,
)
from utils.results.plots import RESULT_FIGURES
from utils.run.notebooks import find_notebooks

PAGE = Path(__file__).with_suffix(".html")
TITLE = "Noisy Student against deepfakes in low-quality video"
FOUND = (
    ("pseudo_labels_add", "control_gains"), ("unlabelled_answer", "unlabelled_verdict"), ("validation_to_test", "split_rules"),
    ("instrument_answers",),
)  # fmt: skip
DRAWN = (RESULT_FIGURES, study_plots.STUDY_FIGURES, unlabelled_plots.UNLABELLED_FIGURES, practice_plots.PRACTICE_FIGURES,
         where_it_looks_plots.WHERE_FIGURES, without_fakes_plots.FAKELESS_FIGURES)  # fmt: skip
PICTURES = {  # those that notebooks 01, 02, 06 and 09 make, and a screenshot (`PAGE_SCREENSHOT`, tests/test_page.py)
    "samples.jpg": "Real and fake frames at c23 and c40, their difference (amplified), and the mask of the forgery.",
    "people_test.jpg": "People of the test split.",
    "people_test_hard.jpg": "People of the harder split: other frames, light, motion, and things in front of the face.",
    "synthff_releases.jpg": "The first and the second release of SynthFF.",
    "gallery.jpg": "Clips that the student is surest of, rightly and wrongly, and those it is least sure of: c40 above c23.",
    "instrument.png": "What makes the instrument say fake: the most suspicious faces of a clip, and Grad-CAM.",
    "page.jpg": "The page of `make app`: verdict, annotated video, time line, the most suspicious faces.",
}
INTRO = """Can videos without labels improve the detection of faces that NeuralTextures reenacted, above all in low-quality
video? A *teacher* learns from the labels of few people and looks at the clean view of everybody else's videos; a *student*
learns what the teacher said of them, under compression as noise."""
POLICY = "default-src 'self' data: 'unsafe-inline'"  # of a notebook's page: whatever it names elsewhere is not fetched
DATA = "All numbers are on SynthFF, rendered people in the shape of FaceForensics++, and not on FaceForensics++ itself."
written = mistune.create_markdown()  # HTML of Markdown, tags escaped


def captions() -> dict[str, str]:
    """Return what is written below each figure, by file: the first lines of the function that draws it, or a sentence."""
    drawn = {f"{name}.svg": " ".join((draw.__doc__ or "").split("\n\n")[0].split()) for figures in DRAWN
             for name, draw in figures.items()}  # fmt: skip
    return PICTURES | drawn


def question(notebook: Path) -> tuple[str, str]:
    """Return a notebook's title and the first question of its opening."""
    opening = nbformat.read(notebook, as_version=4).cells[0].source
    title, _, rest = opening.partition("\n")
    asked = re.search(r"[^.?!]*\?", " ".join(rest.split()))
    return title.lstrip("# ").strip(), asked[0].strip() if asked else ""


def write_notebook(notebook: Path, out: Path) -> str:
    """Write a notebook as a page that loads nothing from elsewhere; return the page's name."""
    exporter = HTMLExporter(template_name="lab", mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="")
    page, _ = exporter.from_notebook_node(nbformat.read(notebook, as_version=4), {"metadata": {"name": notebook.stem}})
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    page = re.sub(r'<script src="">\s*</script>', "", page).replace("<head>", f"<head>{policy}", 1)
    with atomic(out / f"{notebook.stem}.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return f"{notebook.stem}.html"


def build(profile: Profile, out: Path) -> Path:
    """Write the site into a folder; return its first page. Raises FileNotFoundError where the report was not built."""
    space, out = profile.workspace, out.resolve()
    if not (space.report / "report.pdf").is_file():
        raise FileNotFoundError(f"no report at {space.report}: run `make figures`")
    (out / "figures").mkdir(parents=True, exist_ok=True)
    rows, shown = [], []
    for notebook in tqdm(find_notebooks(), desc="notebooks", disable=None):
        title, asked = question(notebook)
        link = write_notebook(notebook, out)
        rows.append(f'<tr><td><a href="{link}">{html.escape(title)}</a></td><td>{html.escape(asked)}</td></tr>')
    for name, caption in captions().items():
        if (space.figures / name).is_file():
            copy(space.figures / name, out / "figures" / name)
            text = html.escape(caption)
            image = f'<a href="figures/{name}"><img src="figures/{name}" alt="{text}" loading="lazy"></a>'
            shown.append(f"<figure>{image}<figcaption>{text}</figcaption></figure>")
    copy(space.report / "report.pdf", out / "report.pdf")
    report.compile_report(profile, "slides", out / "slides.pdf")
    write_quiz(profile, out / "quiz")
    found = "".join(written(claims.told(profile, *names)) for names in FOUND)
    intro = written(" ".join(INTRO.split())) + f'<div class="note">{written(DATA)}</div>'
    page = PAGE.read_text(encoding="utf-8").format(
        title=TITLE, intro=intro, found=found, notebooks="".join(rows), gallery="".join(shown)
    )
    with atomic(out / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out / "index.html"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.run.site", description="A static site of what is committed.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    arguments = parser.parse_args(argv)
    try:
        print(build(get_profile("synthff"), arguments.out))
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
