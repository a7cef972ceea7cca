"""Where the programs are.

HOLDFAST_BIN names the directory of the programs under test (ctest sets it to the bin directory of
the build being tested); without it build/release/bin is used.
"""

import os
import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ.get("HOLDFAST_BIN", ROOT / "build" / "release" / "bin"))


def program(name: str) -> str:
    """A program or helper of this build."""
    path = BIN / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: build it (./test does), or set HOLDFAST_BIN")
    return str(path)


def tool(name: str) -> str:
    """A program of the system, of a package in scripts/packages.txt."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError(f"{name} is missing: run scripts/setup")
    return found
