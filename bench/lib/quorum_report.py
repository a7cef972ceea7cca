"""The arithmetic and the tables of `bench/run quorum`. Pure: results in, text out."""

import json

from bench.lib import plot, report
from bench.lib.failover_report import MOST_BUSY, percentile
from bench.lib.report import Aim, number, table

RUNS = "quorum-runs.jsonl"  # a line for each repeat, as it ends
SLACK_S = 1.0  # for a loaded machine, in the limits
FIGURES = {
    "detected_s": "detected", "decided_s": "decided", "fenced_s": "fenced",
    "taken_s": "taken over", "lease_end_s": "lease of the lost node ended",
}


def collect(head, lines, cells):
    """The results of what was written down in RUNS, one cell for each (fault, profile)."""
    found = {cell: {"job": cell[0], "series": cell[1], "runs": [], "error": None}
             for cell in cells}
    timers = {}
    for line in map(json.loads, lines):
        cell = found[line["job"], line["series"]]
        if "timers" in line:
            timers[line["series"]] = line["timers"]
        elif "error" in line:
            cell["error"] = "; ".join(filter(None, [cell["error"], line["error"]]))
        else:
            cell["runs"].append(line["figures"])
    for cell in found.values():
        if not cell["runs"] and not cell["error"]:
            cell["error"] = "nothing was measured"
    warnings = []
    if head["busy_cores"] > MOST_BUSY * head["machine"]["cores"]:
        warnings.append(f"{head['busy_cores']:.1f} of {head['machine']['cores']} cores were busy: "
                        "the times hold the time that programs waited for one")
    return head | {"timers": timers, "warnings": warnings,
                   "cells": [cell | {"distribution": distributions(cell["runs"])}
                             for cell in found.values()]}


def distribution(values):
    if not values:
        return None
    return {"min": min(values), "p50": percentile(values, 50), "p95": percentile(values, 95),
            "max": max(values)}


def distributions(runs):
    return {key: distribution([run[key] for run in runs]) for key in (*FIGURES, "decision_s")}


def limits(timers):
    """What follows from the times, in seconds: figure -> limit."""
    return {
        "detected_s": timers["net_dead"] + timers["hb_net"] + SLACK_S,
        "decision_s": timers["disk_io_to"] + timers["hb_disk"] + SLACK_S,
        "lease_end_s": timers["lease"] + timers["hb_net"],
    }


TITLES = {"detected_s": "detected", "decision_s": "decided after it was detected",
          "lease_end_s": "lease of the lost node ended"}


def aims(results):
    """The worst of all repeats and faults against what the times of the profile promise."""
    out = []
    for profile, timers in results["timers"].items():
        runs = [run for cell in results["cells"] if cell["series"] == profile
                for run in cell["runs"]]
        for key, limit in limits(timers).items():
            out.append(Aim(f"{profile}: {TITLES[key]}, worst of {len(runs)}",
                           max((run[key] for run in runs), default=None), limit, False, " s"))
        for what, counted in (("taken over from one that had its lease and was not fenced",
                               [run["violation"] for run in runs]),
                              ("a survivor was without its lease",
                               [bool(run["lapsed"]) for run in runs])):
            out.append(Aim(f"{profile}: {what}, times in {len(runs)}",
                           sum(counted) if runs else None, 0, False))
    return out


def _rows(cell):
    runs = cell["runs"]
    if not runs:
        return [[cell["series"], "", "failed", "", "", "", ""]]
    found = distributions(runs)
    return [[cell["series"], what, str(len(runs)),
             *(number(found[key][name]) for name in ("min", "p50", "p95", "max"))]
            for key, what in FIGURES.items()]


def tables(results, faults):
    head = ["profile", "s after the fault", "n", "min", "p50", "p95", "max"]
    parts = []
    for fault in faults:
        cells = [cell for cell in results["cells"] if cell["job"] == fault.name]
        if cells:
            rows = [row for cell in cells for row in _rows(cell)]
            parts.append(f"**{fault.title}** (`{fault.name}`)\n\n" + table(head, rows))
    return "\n\n".join(parts)


def order(cells):
    """What came first, the takeover or the end of the lease."""
    rows = []
    for cell in cells:
        runs = cell["runs"]
        rows.append([f"{cell['job']}, {cell['series']}", str(len(runs)),
                     *(str(sum(counted)) for counted in (
                         [run["lease_first"] for run in runs],
                         [not run["lease_first"] and not run["violation"] for run in runs],
                         [run["violation"] for run in runs],
                         [run["fenced_timed"] for run in runs]))])
    return table(["when another took over", "n", "lease had ended", "it had not, but was fenced",
                  "neither", "fenced by time"], rows)


def markdown(results, faults):
    machine = results["machine"]
    lines = [
        f"Run of {results['started']}, commit {results['commit']}: {results['repeats']} repeats of "
        f"each fault and profile; {results['clusters']} clusters at the same time, one for each "
        f"fault and profile, of three nodes, a witness and a volume; "
        f"{results['busy_cores']:.1f} cores busy on the whole.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, kernel {machine['kernel']}, "
        f"{machine['memory_gib']} GiB.",
    ]
    lines += report.warnings_and_failures(results)
    lines += ["", "## Aims", "", report.aims_table(aims(results))]
    lines += ["", "## Times", "",
              "In seconds after the fault of the node that coordinates the volume: until a "
              "survivor hears it over no network, an epoch without it is decided, that epoch is "
              "fenced (nothing of the node can land any more), and a survivor has the volume's "
              "token; and until the lost node's own lease has ended.", "",
              tables(results, faults)]
    lines += ["", "## Which came first", "", order(results["cells"])]
    return "\n".join(lines) + "\n"


STRIPS = {"detected_s": ("detected", "#9aa0a6"), "taken_s": ("taken over", "#1a73e8"),
          "lease_end_s": ("its lease ended", "#e8710a")}


def svg(results, faults):
    lines = []
    for profile, timers in results["timers"].items():
        for fault in faults:
            for cell in results["cells"]:
                if (cell["job"], cell["series"]) != (fault.name, profile) or not cell["runs"]:
                    continue
                lines += [plot.Strip(f"{profile}, {fault.name}: {what}",
                                     [run[key] for run in cell["runs"]], color,
                                     limits(timers).get(key))
                          for key, (what, color) in STRIPS.items()]
    return plot.strips("From the loss of a node to the takeover of its volume (red: the aim)",
                       plot.subtitle(results), lines, "s")
