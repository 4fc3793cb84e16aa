"""Are the scores still those of an earlier commit, which kept one file a run? Byte for byte, from git's own copy:

    python tests/same_scores.py e1ed904 [PROFILE]

Run by hand after a change of layout; not a test, for results may be replaced on purpose. With a profile, such as `repeat`, it
compares what this machine has run.
"""

from __future__ import annotations

import gzip
import subprocess
import sys

from utils.config import get_profile
from utils.paths import ROOT
from utils.results.store import load_predictions

OLD = ["run", "model", "phase", "seed", "split", "quality", "video_id", "frame", "label", "score"]


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def main(commit: str, profile: str = "synthff") -> int:
    equal, different = 0, []
    table = load_predictions(get_profile(profile))
    files = git("ls-tree", "-r", "--name-only", commit, "data/predictions").decode().split()
    for (experiment, run), part in table.groupby(["experiment", "run"]):
        path = "/".join(filter(None, ["data/predictions", experiment, f"{run}.csv.gz"]))
        now = part.sort_values(["split", "quality", "video_id", "frame"], kind="stable")[OLD]
        text = now.to_csv(index=False, float_format="%.5g", lineterminator="\n").encode()
        if path in files and gzip.decompress(git("show", f"{commit}:{path}")) == text:
            equal += 1
        else:
            different.append(path)
    print(f"{equal} of {len(files)} files of {commit} are equal byte for byte; different: {', '.join(different) or 'none'}")
    return int(bool(different) or equal != len(files))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
