"""The files of the tree, for the tests of this folder."""

import os
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOT_OURS = {".git", "build", "__pycache__", "corpus"}
CODE = {".cc", ".h", ".c"}
PRODUCT = ("common", "target", "initiator", "mpio", "qdisk", "csvfs", "cluster")


def files(*tops) -> list:
    """Paths relative to the root, sorted; of the top-level folders given, or of all."""
    found = []
    for top in tops or ("",):
        for directory, names, leaves in os.walk(ROOT / top):
            names[:] = sorted(name for name in names if name not in NOT_OURS)
            found += [(pathlib.Path(directory) / leaf).relative_to(ROOT) for leaf in leaves
                      if leaf not in NOT_OURS]  # in a worktree .git is a file
    return sorted(found)


def code(*tops) -> list:
    return [path for path in files(*tops) if path.suffix in CODE]


def text(path) -> str:
    return (ROOT / path).read_text(errors="replace")


def without_comments(source: str) -> str:
    """C++ with comments and the content of strings blanked; lines keep their numbers."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\''

    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])

    return re.sub(pattern, blank, source, flags=re.S)


def find(pattern, source) -> list:
    """Line numbers of the matches."""
    return [source.count("\n", 0, match.start()) + 1 for match in re.finditer(pattern, source)]


def fail_with(case, problems):
    """Fails with one problem a line."""
    if problems:
        case.fail("\n" + "\n".join(problems))
