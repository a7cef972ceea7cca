#!/usr/bin/env python3
"""Runs clang-tidy-19 with the tree's .clang-tidy on every source file of the product.

    run_clang_tidy.py BUILD_DIRECTORY [FILE ...]

A file that was clean is not looked at again until it, a header of ours that it includes, or the
configuration changes: what was seen is kept in BUILD_DIRECTORY/clang-tidy.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

import tree

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
PROGRAM = "clang-tidy-19"


def closure(path, seen):
    """The file and the headers of ours that it includes, however indirectly."""
    if path in seen or not (tree.ROOT / path).exists():
        return
    seen.add(path)
    for included in INCLUDE.findall(tree.text(path)):
        closure(included, seen)


def fingerprint(path, configuration) -> str:
    seen = set()
    closure(path, seen)
    digest = hashlib.sha256(configuration)
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + (tree.ROOT / name).read_bytes())
    return digest.hexdigest()


def check(build, path) -> str:
    """What clang-tidy has to say; empty: nothing."""
    done = subprocess.run([PROGRAM, "--quiet", "-p", str(build), str(tree.ROOT / path),
                           "--extra-arg=-Wno-unknown-warning-option"],
                          capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def main() -> int:
    build = pathlib.Path(sys.argv[1])
    commands = json.loads((build / "compile_commands.json").read_text())
    compiled = {os.path.relpath(entry["file"], tree.ROOT) for entry in commands}
    paths = sys.argv[2:] or [path for path in sorted(compiled)
                             if path.split("/")[0] in tree.PRODUCT]
    version = subprocess.run([PROGRAM, "--version"], capture_output=True, check=True).stdout
    configuration = version + (tree.ROOT / ".clang-tidy").read_bytes()
    kept = build / "clang-tidy"
    kept.mkdir(exist_ok=True)

    def job(path):
        mark = kept / path.replace("/", "_")
        wanted = fingerprint(path, configuration)
        if mark.exists() and mark.read_text() == wanted:
            return path, ""
        text = check(build, path)
        if not text:
            mark.write_text(wanted)
        return path, text

    problems = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, text in pool.map(job, paths):
            if text:
                problems += 1
                print(f"--- {path}\n{text}", flush=True)
    print(f"{len(paths)} files, {problems} with problems")
    return 1 if problems or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
