"""Build SynthFF; what is there already stays."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from utils.config import DataConfig, SynthFFConfig
from utils.synthff import assets
from utils.synthff.build import build, verify


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="processes, one core each")
    parser.add_argument("--only", nargs="*", help="video ids to make, all others left alone")
    parser.add_argument("--verify", nargs="+", help="video ids to render again, to compare their frames with metadata.csv")
    parser.add_argument("--root", type=Path, default=Path(DataConfig().root), help="where the tree is written")
    options = parser.parse_args(arguments)
    try:
        assets.fetch()
        if options.verify:
            same = verify(options.root, SynthFFConfig(), options.verify, options.jobs)
            print("\n".join(f"{video_id}: {'identical' if equal else 'DIFFERENT'}" for video_id, equal in same.items()))
            return 0 if all(same.values()) else 1
        build(options.root, SynthFFConfig(), options.jobs, options.only)
    except (RuntimeError, FileNotFoundError, ValueError) as error:
        print(f"synthff: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
