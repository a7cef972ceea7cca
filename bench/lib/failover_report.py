"""The arithmetic and the tables of `bench/run failover`. Pure: results in, text out."""

import math
import statistics

from bench.lib import plot, report
from bench.lib.report import Aim, number, table

# The product's own limits, in ms: scenario -> limit.
LIMITS = {"carrier": 150.0, "reset": 50.0, "closed": 50.0, "silent": 1000.0}
PERCENTILES = (50, 90, 99)
MOST_BUSY = 0.9  # of the cores: beyond it processes wait for one


def figures_of(told, began_s, took_s):
    """What one repeat says. `told` is what holdfast-bench-mpio printed; `began_s` is when the path
    was taken away, on the same clock."""
    after = [gap for gap in told["gaps"] if gap["at_s"] + gap["ms"] / 1000 >= began_s]
    longest = max(after, key=lambda gap: gap["ms"], default={"ms": 0.0, "at_s": began_s})
    device = told["device"]
    return {
        "gap_ms": longest["ms"],  # no request of any kind was answered for so long
        "gap_at_ms": (longest["at_s"] - began_s) * 1000,
        "read_ms": told["reads"]["max_us"] / 1000,
        "write_ms": told["writes"]["max_us"] / 1000,
        "request_ms": told["all"]["max_us"] / 1000,
        "taking_ms": took_s * 1000,
        "iops": told["iops"],
        # Sessions beyond one a path. They also count attempts that were refused.
        "new_sessions": sum(path["sessions"] for path in told["paths"]) - len(told["paths"]),
        **{name: device[name] for name in ("failovers", "retries", "reissued_writes", "fences",
                                           "fences_by_time")},
    }


def percentile(values, percent):
    """Nearest rank: a value that was measured; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]


def distribution(values):
    if not values:
        return None
    return {"min": min(values), **{f"p{percent}": percentile(values, percent)
                                   for percent in PERCENTILES}, "max": max(values)}


def distributions(runs):
    return {key: distribution([run[key] for run in runs])
            for key in ("gap_ms", "request_ms", "read_ms", "write_ms")}


def _runs_of(cells, scenario):
    return [run for cell in cells if cell["job"] == scenario for run in cell["runs"]]


def _worst(runs, key):
    return max((run[key] for run in runs), default=None)


TITLES = {"carrier": "carrier loss", "reset": "RST", "closed": "portal closed",
          "silent": "silent loss"}


def aims(cells):
    """The worst of all repeats and policies against the product's limits."""
    out = []
    for scenario, limit in LIMITS.items():
        runs = _runs_of(cells, scenario)
        for key, what in (("gap_ms", "pause between completions"),
                          ("request_ms", "longest request")):
            out.append(Aim(f"{TITLES[scenario]}: {what}, worst of {len(runs)}", _worst(runs, key),
                           limit, False, " ms"))
    stalls = _runs_of(cells, "stall")
    for key, what in (("new_sessions", "sessions begun anew"),
                      ("reissued_writes", "writes repeated")):
        out.append(Aim(f"stalled target: {what}, worst of {len(stalls)}", _worst(stalls, key), 0,
                       False))
    return out


def _row(cell):
    runs = cell["runs"]
    if not runs:
        return [cell["series"], "failed", *[""] * 12]
    gaps, requests = distributions(runs)["gap_ms"], distributions(runs)["request_ms"]
    counters = [number(statistics.median(run[key] for run in runs))
                for key in ("failovers", "new_sessions", "retries", "reissued_writes")]
    return [cell["series"], str(len(runs)), *(number(value) for value in gaps.values()),
            number(requests["p50"]), number(requests["max"]), *counters,
            "!" if cell["error"] else ""]


def tables(results, scenarios):
    head = ["policy", "n", "min", *(f"p{percent}" for percent in PERCENTILES), "max",
            "request p50", "request max", "failovers", "new sessions", "retries",
            "writes repeated", ""]
    parts = []
    for scenario in scenarios:
        rows = [_row(cell) for cell in results["cells"] if cell["job"] == scenario.name]
        if rows:
            parts.append(f"**{scenario.title}** (`{scenario.name}`)\n\n" + table(head, rows))
    return "\n\n".join(parts)


def markdown(results, scenarios):
    machine = results["machine"]
    lines = [
        f"Run of {results['started']}, commit {results['commit']}: {results['repeats']} repeats of "
        f"each scenario and policy; depth {results['depth']}, 4 KiB, half of it writes; profile "
        f"lan; {results['busy_cores']:.1f} cores busy on the whole.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, kernel {machine['kernel']}, "
        f"{machine['memory_gib']} GiB.",
    ]
    lines += report.warnings_and_failures(results)
    lines += ["", "## Aims", "", report.aims_table(aims(results["cells"]))]
    lines += ["", "## Pauses", "",
              "In ms: the longest time without any completion after the path was taken away, and "
              "the longest request of the whole run. Counters are medians. With `failover` all "
              "I/O is on the path that is lost; with `adaptive` the other path goes on, so what "
              "waits is told by the longest request. `!`: a repeat failed.", "",
              tables(results, scenarios)]
    return "\n".join(lines) + "\n"


COLORS = {"failover": "#1a73e8", "adaptive": "#188038"}


def svg(results, scenarios):
    lines = []
    for scenario in scenarios:
        for cell in results["cells"]:
            if cell["job"] != scenario.name or not cell["runs"]:
                continue
            for key, what in (("gap_ms", "pause"), ("request_ms", "longest request")):
                lines.append(plot.Strip(f"{scenario.name}, {cell['series']}: {what}",
                                        [run[key] for run in cell["runs"]],
                                        COLORS.get(cell["series"], "#9aa0a6"),
                                        LIMITS.get(scenario.name)))
    return plot.strips("How long I/O pauses when a path is lost (red: the product's limit)",
                       plot.subtitle(results), lines, "ms")
