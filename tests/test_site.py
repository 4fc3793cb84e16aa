"""The static site and its quiz: whole, loading nothing from elsewhere, and honest about what was drawn."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from mock_predictions import make_run

from utils.checks import quiz
from utils.config import get_profile
from utils.paths import NOTEBOOKS
from utils.results import store
from utils.run import site

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Links(HTMLParser):
    """Collects what a page links to or loads."""

    def __init__(self, page):
        super().__init__()
        self.found, self.loaded = [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                (self.found if tag == "a" else self.loaded).append(value)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    site.build(get_profile("synthff"), folder)
    return folder


def test_every_link_leads_to_a_file_and_nothing_is_loaded_from_elsewhere(built):
    links = Links(built / "index.html")
    assert len(links.found) > 30
    for link in [*links.found, *links.loaded]:
        assert (built / link).is_file(), link
    pages = sorted(built.glob("[0-9]*.html"))
    assert len(pages) == len(list(NOTEBOOKS.glob("[0-9]*.ipynb")))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert site.POLICY in text and '<script src=""' not in text and str(site.ROOT) not in text
        assert not [one for one in Links(page).loaded if one.startswith(("http", "//"))]
    assert (built / "slides.pdf").read_bytes()[:5] == (built / "report.pdf").read_bytes()[:5] == b"%PDF-"


def test_the_first_page_tells_what_was_found_and_asks_what_the_notebooks_ask(built):
    text = (built / "index.html").read_text(encoding="utf-8")
    assert "not on FaceForensics++ itself" in text and "the AUC at c40 is" in text and "[" + "pseudo labels" not in text
    for notebook in NOTEBOOKS.glob("[0-9]*.ipynb"):
        title, asked = site.question(notebook)
        assert title and asked.endswith("?") and len(asked) > 20, notebook
    assert all(caption and not caption.endswith(",") for caption in site.captions().values())
    assert {"gallery.jpg", "where_it_looks.svg"} <= set(site.captions())


def test_slides_are_ten(built):
    pymupdf = pytest.importorskip("pymupdf")
    slides = pymupdf.open(built / "slides.pdf")
    assert len(slides) == 10 and "not run" not in " ".join(page.get_text() for page in slides)


def test_paragraphs_are_escaped():
    assert site.written("a `b` *c* <script>") == "<p>a <code>b</code> <em>c</em> &lt;script&gt;</p>\n"


# ---- the quiz -------------------------------------------------------------------------------------------------------------


def clips(people: int) -> pd.DataFrame:
    rows = []
    for number in range(0, people, 2):
        for a, b in ((number, number + 1), (number + 1, number)):
            for quality in ("c23", "c40"):
                rows += [("original", f"{a:03d}", quality, 0), ("NeuralTextures", f"{a:03d}_{b:03d}", quality, 1)]
    return pd.DataFrame(rows, columns=["method", "video_id", "quality", "label"])


def test_clips_are_drawn_half_fake_and_nobody_twice():
    drawn = quiz.draw_clips(clips(60), seed=1)
    assert len(drawn) == 20 and drawn["target"].is_unique and list(dict.fromkeys(drawn["quality"])) == ["c23", "c40"]
    assert drawn.groupby("quality")["label"].agg(["sum", "size"]).to_numpy().tolist() == [[5, 10]] * 2
    again, other = quiz.draw_clips(clips(60), seed=1), quiz.draw_clips(clips(60), seed=2)
    pd.testing.assert_frame_equal(drawn, again)
    assert drawn["video_id"].tolist() != other["video_id"].tolist()
    labels = drawn["label"].tolist()
    assert labels != sorted(labels) and labels != [0, 1] * 10  # the order tells nothing
    with pytest.raises(ValueError, match="8 people are too few for 20"):
        quiz.draw_clips(clips(8))


def test_people_without_one_of_their_clips_are_not_drawn_and_networks_that_were_not_run_say_nothing():
    some = clips(26)
    faceless = some["video_id"].isin(["000", "003_002"]) & (some["quality"] == "c40")  # of persons 000 and 003
    for seed in range(5):
        drawn = quiz.draw_clips(some[~faceless], seed)
        assert len(drawn) == 20 and not drawn["target"].isin(["000", "003"]).any()
        assert drawn.groupby("quality")["label"].agg(["sum", "size"]).to_numpy().tolist() == [[5, 10]] * 2
    with pytest.raises(ValueError, match="19 people are too few for 20"):
        quiz.draw_clips(clips(20)[lambda some: some["video_id"] != "000"])
    assert quiz.said(make_run("resnet18", n_pairs=3), drawn) == {}


def test_the_page_has_the_clips_and_what_networks_said_of_them(built):
    page = (built / "quiz" / "index.html").read_text(encoding="utf-8")
    found = json.loads(re.search(r"const QUIZ = (.*);\n", page)[1])
    assert len(found["clips"]) == 20 and found["networks"] == ["Xception, post-trained",
                                                              "EfficientNet-Lite0, student, compression noise"]  # fmt: skip
    assert all((built / "quiz" / clip["file"]).stat().st_size > 2000 for clip in found["clips"])
    assert found["humans"] == {"c23": 66.57, "c40": 58.73}
    predictions = store.of_comparison(store.load_predictions(get_profile("synthff")))
    test = predictions[predictions["split"] == "test"].drop_duplicates(["method", "video_id", "quality"])
    drawn = quiz.draw_clips(test)
    assert [clip["label"] for clip in found["clips"]] == drawn["label"].tolist()
    right = np.mean([clip["said"][0] == clip["label"] for clip in found["clips"]])
    assert right > 0.7


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_visitor_answers_and_sees_a_score(built):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, problems = browser.new_page(), []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.goto((built / "quiz" / "index.html").as_uri())
        page.wait_for_selector("#real")
        for number in range(20):
            page.keyboard.press("rf"[number % 2])
        page.wait_for_selector("table")
        text = page.inner_text("main")
        assert text.count("of 10 (") == 6 and "66.57 %" in text and page.locator("video").count() == 20
        page.get_by_role("button", name="again").click()
        assert "Clip 1 of 20" in page.inner_text("main")
        page.goto((built / "index.html").as_uri())
        assert page.locator("figure img").count() > 10
        browser.close()
    assert not problems
