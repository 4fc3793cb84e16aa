"""Cut the faces out of all videos of a profile's tree, resumably; notebook 02 does the same and looks at them.

    python -m utils.run.extract [--profile ffpp] [--jobs 8] [--scheduler tcp://HOST:8786]

One line of totals, and one for each video that cannot be read, which stands in `failures.csv` as well and is tried again by
the next call. The exit code is 0 if all went well, 1 with such videos, 2 if nothing could be begun.
"""

from __future__ import annotations

import argparse
import sys

from utils.config import PROFILES, get_profile
from utils.faces import crops, ffpp
from utils.run import cluster
from utils.run.arguments import processes


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.run.extract", description="Cut faces out of a profile's videos.")
    parser.add_argument("--profile", default="synthff", help=f"one of {', '.join(PROFILES)} (default: synthff)")
    parser.add_argument("--jobs", type=processes, default=-1, help="processes (default: one a core)")
    cluster.add_flag(parser)
    arguments = parser.parse_args(argv)
    try:
        profile = get_profile(arguments.profile)
        folder = profile.workspace.faces
        index = ffpp.load_index(profile)
        with cluster.backend(arguments.scheduler, profile):
            table = crops.extract_all(index, profile.faces, folder, arguments.jobs)
    except (ValueError, OSError, RuntimeError, cluster.ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failures, found = crops.read_failures(folder), (table["status"] == crops.FOUND).sum()
    read = len(index) - len(failures)
    print(f"{read} of {len(index)} videos read, {len(table)} frames sampled, {found} faces in {folder}")
    for failure in failures.itertuples():
        print(f"failed: {failure.method} {failure.quality} {failure.video_id}: {failure.error}", file=sys.stderr)
    return int(len(failures) > 0)


if __name__ == "__main__":
    sys.exit(main())
