"""Serve notebook 09 as a page, on this machine alone: `make app`.

    python -m utils.run.app [--port 8866] [--no-browser]

Voilà shows the notebook without its code; every visitor gets a kernel of their own, which ends with the visit, or half an hour
after a browser that never said goodbye. What a killed kernel leaves behind is removed with the server. The page loads nothing
from the network.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile

from utils.paths import NOTEBOOKS
from utils.run.arguments import at_least
from utils.run.page import MOST_BYTES

NOTEBOOK = NOTEBOOKS / "09_score_a_video.ipynb"
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob: ws://127.0.0.1:* ws://localhost:*"
CULL = ("--MappingKernelManager.cull_idle_timeout=1800", "--MappingKernelManager.cull_interval=60")  # s; none that is looked at
SETTINGS = {"websocket_max_message_size": 2 * MOST_BYTES, "headers": {"Content-Security-Policy": POLICY}}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.run.app", description="Serve notebook 09 as a page.")
    parser.add_argument("--port", type=at_least(1), default=8866)
    parser.add_argument("--no-browser", action="store_true", help="do not open it")
    arguments = parser.parse_args(argv)
    if arguments.port > 65535:
        parser.error(f"--port {arguments.port}: the greatest is 65535")
    from voila.app import Voila  # takes a second

    signal.signal(signal.SIGHUP, lambda *_: sys.exit(1))  # a terminal that is closed: the folder below is removed
    options = [str(NOTEBOOK), "--Voila.ip=127.0.0.1", f"--port={arguments.port}", *CULL]
    with tempfile.TemporaryDirectory(prefix="score-app-") as folder:
        os.environ["TMPDIR"] = folder  # kernels write their files there
        Voila.launch_instance([*options, *["--no-browser"] * arguments.no_browser], tornado_settings=SETTINGS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
