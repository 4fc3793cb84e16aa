"""Build SynthFF; clips that this machine has made by the same settings stay, a fresh clone renders all of them anew."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from utils.config import RELEASES
from utils.paths import SYNTHFF
from utils.synthff import assets
from utils.synthff.build import build, build_pool, first_of_pool, verify


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="processes, one core each")
    parser.add_argument("--only", nargs="*", help="video ids to make, all others left alone")
    parser.add_argument("--first", type=int, metavar="PEOPLE", help="of the pool, the first so many people alone")
    parser.add_argument("--verify", nargs="+", help="video ids to render again, to compare their frames with metadata.csv")
    parser.add_argument("--release", type=int, choices=RELEASES, default=1)
    parser.add_argument("--pool", action="store_true", help="the people without labels of the second release, not committed")
    parser.add_argument("--root", type=Path, default=None, help="where the tree is written (default: below data/)")
    options = parser.parse_args(arguments)
    config, root = RELEASES[options.release], options.root or SYNTHFF[options.release]
    try:
        assets.fetch()
        if options.verify:
            same = verify(root, config, options.verify, options.jobs)
            print("\n".join(f"{video_id}: {'identical' if equal else 'DIFFERENT'}" for video_id, equal in same.items()))
            return 0 if all(same.values()) else 1
        if options.first is not None:
            if not options.pool or options.only:
                raise ValueError("--first is for --pool, in place of --only")
            options.only = first_of_pool(config, options.first)
        (build_pool if options.pool else build)(root, config, options.jobs, options.only)
    except (RuntimeError, FileNotFoundError, ValueError) as error:
        print(f"synthff: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
