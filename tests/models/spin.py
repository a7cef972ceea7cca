"""Searches a Promela model with spin: search(model, defines, progress) -> Outcome.

The model's verifier is generated, compiled and run in a directory of its own, which is gone
afterwards. States are kept whole (COLLAPSE, without loss), so a search that ends has seen them all;
Outcome.problem says why one has not: its depth, memory or time ended, or a tool failed.
"""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parent
MEMORY_MB = 1900
DEPTH = 100_000
SECONDS = 900
TRAIL_LINES = 80


@dataclasses.dataclass
class Outcome:
    errors: int = 0
    states: int = 0
    depth: int = 0
    assertion: str = ""  # that was violated
    cycle: bool = False  # a run that goes on for ever without what was promised
    problem: str = ""    # the search was not exhaustive, and found no error
    trail: str = ""      # the end of the run that leads to the error

    @property
    def holds(self):
        return not self.problem and self.errors == 0


def parse(text: str, depth: int = DEPTH) -> Outcome:
    """Of the output of a verifier that could search so deep."""
    outcome = Outcome()
    head = re.search(r"^State-vector \d+ byte, depth reached (\d+), errors: (\d+)$", text, re.M)
    states = re.search(r"^ *([\d.e+]+) states, stored", text, re.M)
    if not head or not states:
        outcome.problem = "no result:\n" + text[-2000:]
        return outcome
    outcome.depth, outcome.errors = int(head[1]), int(head[2])
    outcome.states = int(float(states[1]))
    violated = re.search(r"^pan:\d+: assertion violated (.*?) \(at depth \d+\)$", text, re.M)
    outcome.assertion = violated[1].strip() if violated else ""
    outcome.cycle = bool(re.search(r"^pan:\d+: acceptance cycle", text, re.M))
    if outcome.errors:
        if not outcome.assertion and not outcome.cycle:
            outcome.problem = "an error of another kind:\n" + text[:500]
    elif "max search depth too small" in text or outcome.depth >= depth:
        outcome.problem = f"max search depth too small: {depth}"
    elif re.search(r"out of memory|MEMLIM|memory limit", text):
        outcome.problem = f"{MEMORY_MB} MB are not enough"
    elif "Search not completed" in text or re.search(r"^Interrupted", text, re.M):
        outcome.problem = "the search was not completed"
    elif re.search(r"Bit statespace|Hash-Compact", text):
        outcome.problem = "states were not kept whole"
    return outcome


def search(model: str, defines=(), progress=False, depth=DEPTH) -> Outcome:
    """Of tests/models/MODEL.pml; progress: its formula under fairness, not its assertions."""
    for tool, package in (("spin", "spin"), ("gcc", "g++")):
        if not shutil.which(tool):
            return Outcome(problem=f"{tool} is not installed; scripts/setup does that "
                                   f"(Debian package {package})")
    with tempfile.TemporaryDirectory(prefix="holdfast-model-") as scratch:
        return _search_in(pathlib.Path(scratch), f"{model}.pml",
                          [f"-D{each}" for each in defines], progress, depth)


def _search_in(scratch, file, options, progress, depth):
    shutil.copy(FOLDER / file, scratch)
    kind, how = (["-DNFAIR=5"], ["-a", "-f"]) if progress else (["-DSAFETY"], [])
    for command in (["spin", *options, "-a", file],
                    ["gcc", "-O2", "-w", *kind, "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}",
                     "-o", "pan", "pan.c"]):
        done = _run(command, scratch)
        if done.returncode != 0 or not (scratch / "pan.c").exists():
            return Outcome(problem=f"{' '.join(command)}:\n{done.stdout[-2000:]}")
    try:
        done = _run(["./pan", *how, "-w22", f"-m{depth}"], scratch)
    except subprocess.TimeoutExpired:
        return Outcome(problem=f"no result after {SECONDS} s")
    outcome = parse(done.stdout, depth)
    if outcome.errors:
        steps = _run(["spin", *options, "-t", "-p", "-g", "-l", file], scratch).stdout
        outcome.trail = "\n".join(steps.splitlines()[-TRAIL_LINES:])
    return outcome


def _run(command, scratch):
    return subprocess.run(command, cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", timeout=SECONDS, check=False)
