"""./demo: the steps in order, and a table of what was checked. See show.py for the vocabulary; a
new part of the product adds a module with a function `steps(show)` and a line in PARTS."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
sys.dont_write_bytecode = True

import multipath_part
import quorum_part
import target_part
from show import Show

PARTS = [target_part.steps, multipath_part.steps, quorum_part.steps]


def main() -> int:
    try:
        with Show(keep="--keep" in sys.argv[1:]) as show:
            for part in PARTS:
                part(show)
    except KeyboardInterrupt:
        print("\ninterrupted; what it had made is removed", file=sys.stderr)
        return 130
    return show.finish()


if __name__ == "__main__":
    sys.exit(main())
