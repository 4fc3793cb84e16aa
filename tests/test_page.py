"""The page of `make app`: what it answers to a file, and, where there is a Chromium, what a visitor sees."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import encode, ramps
from IPython.display import Markdown

from utils.config import SHIPPED
from utils.faces.layout import video_path
from utils.learn.packaged import load_packaged, packaged_folder
from utils.paths import ROOT, SYNTHFF
from utils.run import app, page

FAKE = video_path(SYNTHFF[1], "NeuralTextures", "c23", "270_271")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return load_packaged(packaged_folder(SHIPPED))


@pytest.fixture
def temporaries(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_file_is_answered_and_none_of_it_stays(model, temporaries):
    said, shown = page.answer("<b>clip.mp4", FAKE.read_bytes(), model)
    assert "fake, P(fake)" in said and "color:#d55e00" in said
    assert "P(fake)" in page.answer("out", FAKE.read_bytes(), model)[0]  # as the folder of what is written is called
    assert [type(one).__name__ for one in shown] == ["Video", "Image", "Image"]
    assert shown[0].value[4:8] == b"ftyp" and shown[1].value[:4] == b"\x89PNG" and not list(temporaries.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.mp4", b"nonsense", "<b>cannot read a.mp4 (Invalid data"), ("a.mp4", b"", "<b>a.mp4 is empty"),
        ("<script>x</script>.mp4", b"nonsense", "script&gt;.mp4"), ("../../etc/passwd", b"nonsense", "read passwd (Inv"),
        ("x" * 300, b"nonsense", "x" * 100), ("\0", b"nonsense", "Invalid data"),
    ],
)  # fmt: skip
def test_what_is_no_video_is_one_line(model, temporaries, name, content, says):
    said, shown = page.answer(name, content, model)
    assert says in said and shown == () and "<script" not in said and str(temporaries) not in said
    assert not list(temporaries.iterdir())


@pytest.mark.parametrize("error", [RuntimeError("a mistake"), MemoryError()])
def test_an_error_that_nobody_foresaw_is_one_line(model, temporaries, monkeypatch, error):
    monkeypatch.setattr(page.score, "score", lambda *_: (_ for _ in ()).throw(error))
    said, shown = page.answer("<i>.mp4", FAKE.read_bytes(), model)
    assert said.startswith(f"<b>&lt;i&gt;.mp4: {type(error).__name__}") and shown == () and not list(temporaries.iterdir())


def test_files_that_are_too_large_or_too_long_are_refused(model, monkeypatch, tmp_path):
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    assert "give one of at most" in page.answer("clip.mp4", FAKE.read_bytes(), model)[0]
    monkeypatch.undo()
    path = encode(tmp_path / "long.mp4", np.repeat(ramps(1, 16, 16), 700, axis=0), fps=1)
    assert "long.mp4 lasts 12 minutes" in page.answer("long.mp4", path.read_bytes(), model)[0]


def test_a_batch_run_gets_a_line_and_a_visitor_the_widget(model, monkeypatch):
    monkeypatch.setenv(page.IN_BATCH, "1")
    assert isinstance(page.page(model), Markdown)
    monkeypatch.delenv(page.IN_BATCH)
    widget = page.page(model)
    upload, (_, told, results) = widget.children[0].children[0], widget.children
    file = {"name": "a.mp4", "type": "", "size": 8, "content": memoryview(b"nonsense"), "last_modified": datetime.now()}
    upload.value = (file,)
    assert "Invalid data" in told.value and results.children == () and upload.value == ()


@pytest.fixture(scope="module")
def served():
    """Return the address of the page, served as `make app` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "utils.run.app", "--no-browser", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 90
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/voila/static/voila.js", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < end and server.poll() is None
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(20)


def test_kernels_that_nobody_looks_at_end_and_leave_nothing(monkeypatch):
    from voila.app import Voila

    seen = {}

    def launched(options, tornado_settings):
        seen.update(options=options, folder=Path(os.environ["TMPDIR"]))
        (seen["folder"] / "score-of-a-killed-kernel").mkdir()

    monkeypatch.setattr(Voila, "launch_instance", launched)
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())  # put back afterwards
    assert app.main(["--no-browser"]) == 0
    assert {"--Voila.ip=127.0.0.1", "--MappingKernelManager.cull_idle_timeout=1800", "--no-browser"} <= set(seen["options"])
    assert not seen["folder"].exists()


@pytest.mark.slow
def test_the_page_is_served_to_this_machine_alone_and_loads_nothing_from_elsewhere(served):
    with urllib.request.urlopen(served, timeout=120) as answer:
        text = answer.read().decode()
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"] and "Score a video" in text
    port = int(served.rsplit(":", 1)[1])
    try:
        addresses = [found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None)]
    except OSError:
        addresses = []  # this machine has no name that it knows
    outside = next((one for one in addresses if not one.startswith("127.") and one != "::1"), None)
    if outside:
        with pytest.raises(OSError):
            socket.create_connection((outside, port), timeout=3)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here (Debian: chromium)")
def test_a_visitor_drops_a_video_and_sees_verdict_pictures_and_time_line(served, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=quiet)
        tab = browser.new_page(viewport={"width": 1000, "height": 1400})
        asked: list[str] = []
        tab.on("requestfinished", lambda request: asked.append(request.url))
        tab.goto(served, timeout=180_000)
        tab.wait_for_selector("text=a video or an image", timeout=180_000)
        with tab.expect_file_chooser() as chooser:
            tab.click("text=a video or an image")
        chooser.value.set_files(str(FAKE))
        tab.wait_for_selector("video", timeout=180_000)
        assert "fake, P(fake)" in tab.inner_text("body") and tab.locator("img").count() >= 2
        tab.wait_for_function("document.querySelector('video').readyState >= 2", timeout=60_000)
        assert tab.evaluate("document.querySelector('video').videoWidth") == 360
        tab.screenshot(path=os.environ.get("PAGE_SCREENSHOT", str(tmp_path / "page.png")))
        browser.close()
    assert asked and all(url.startswith((served, "data:", "blob:")) for url in asked)
