"""The arithmetic and the tables of `bench/run mpio`. Pure: results in, text out.

A cell is one of lib/report.py's; its runs have the figures of lib/load.py, with what follows from
them: mean_us, initiator_cpu_us, ios_per_cpu_s.
"""

import statistics

from bench.lib import plot, report
from bench.lib.report import Aim, number, table

METRICS = ["iops", "mb_s", "mean_us", "p50_us", "p99_us", "initiator_cpu_us", "ios_per_cpu_s",
           "target_cpu_us", "generator_cpu_us"]

LEAST_PER_CPU_SECOND = 1.5
MOST_LATENCY_RATIO = 1.0
LEAST_OF_TWO_EQUAL = 1.8
LEAST_BESIDE_A_FAR_ONE = 0.9
OPERATIONS = (("r", "read"), ("w", "write"))
PEERS = (("iscsi-perf", "iscsi-perf"), ("qemu-img", "qemu-img bench"))


def figures_of(run, depth):
    """A run's figures with what follows from them. The mean latency is depth / IOPS for every tool
    alike: that of a tool that keeps `depth` requests under way."""
    cpu_us = run["initiator_cpu_s"] * 1e6 / run["ios"]
    return run | {
        "mean_us": depth * 1e6 / run["iops"],
        "initiator_cpu_us": cpu_us,
        "ios_per_cpu_s": 1e6 / cpu_us if cpu_us else None,
        "generator_cpu_us": (run["generator_cpu_s"] * 1e6 / run["ios"]
                             if "generator_cpu_s" in run else None),
    }


def median_of(runs):
    return report.median_of(runs, METRICS)


def aims(cells):
    medians = report.Medians(cells, METRICS)

    def over(metric, job, left, right):
        return report.ratio(medians.get(job, left, metric), medians.get(job, right, metric))

    out = []
    for letter, operation in OPERATIONS:
        for peer, title in PEERS:
            if (letter, peer) == ("w", "iscsi-perf"):
                continue  # it only reads
            out.append(Aim(f"4 KiB {operation}, depth 32: IOPS per CPU second of the initiator / "
                           f"{title}", over("ios_per_cpu_s", f"{letter}4k-q32", "library", peer),
                           LEAST_PER_CPU_SECOND, True))
    for letter, operation in OPERATIONS:
        for peer, title in PEERS:
            if (letter, peer) == ("w", "iscsi-perf"):
                continue
            out.append(Aim(f"4 KiB {operation}, depth 1: mean latency / {title}",
                           over("mean_us", f"{letter}4k-q1", "library", peer),
                           MOST_LATENCY_RATIO, False))
    for letter, operation in OPERATIONS:
        out.append(Aim(f"64 KiB {operation}, rate-limited: two equal paths / one",
                       over("mb_s", f"equal-{letter}64k", "two", "one"), LEAST_OF_TWO_EQUAL, True))
    for letter, operation in OPERATIONS:
        out.append(Aim(f"4 KiB {operation}: with a path 5 ms farther away / the good path alone",
                       over("iops", f"far-{letter}4k", "both", "good"), LEAST_BESIDE_A_FAR_ONE,
                       True))
    return out


def share_of_paths(runs):
    """"52 : 48" of the I/O of the last run; empty for one path."""
    paths = runs[-1].get("paths") or []
    counts = [path["reads"] + path["writes"] for path in paths]
    if len(counts) < 2 or not sum(counts):
        return ""
    return " : ".join(f"{100 * count / sum(counts):.0f}" for count in counts)


def _notes(cell, cores):
    runs = cell["runs"]
    busy = statistics.median(run["busy_cores"] for run in runs)
    return (("~" if report.spread_of(runs) > report.NOISY_SPREAD else "")
            + ("*" if busy > report.SATURATED * cores else "")
            + ("#" if report.is_disturbed(runs) else "") + ("!" if cell["error"] else ""))


def _row(one, cell, cores):
    if not cell["runs"]:
        return [one.title, "failed", *[""] * 10]
    medians = median_of(cell["runs"])
    return [one.title, *(number(medians[metric]) for metric in METRICS),
            share_of_paths(cell["runs"]), _notes(cell, cores)]


def results_tables(results, jobs, series):
    head = ["", "IOPS", "MB/s", "mean us", "p50 us", "p99 us", "initiator CPU us/IO",
            "IOPS per CPU s", "target CPU us/IO", "client CPU us/IO", "paths %", ""]
    cells = {(cell["job"], cell["series"]): cell for cell in results["cells"]}
    parts = []
    for job in jobs:
        rows = [_row(one, cells[job.name, one.name], results["machine"]["cores"])
                for one in series if (job.name, one.name) in cells]
        if rows:
            parts.append(f"**{job.title}** (`{job.name}`)\n\n" + table(head, rows))
    return "\n\n".join(parts)


def markdown(results, jobs, series):
    machine = results["machine"]
    lines = [
        f"Run of {results['started']}, commit {results['commit']}: {results['repeats']} x "
        f"{results['seconds']} s per cell, medians; {results['peers']}; memory-backed LUN of "
        f"{results['size_mib']} MiB, target with 1 thread; rate limit "
        f"{results['limit_mbit']} Mbit/s by {results['limiter']}.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, kernel {machine['kernel']}, "
        f"{machine['memory_gib']} GiB.",
    ]
    lines += report.warnings_and_failures(results)
    lines += ["", "## Aims", "", report.aims_table(aims(results["cells"])), "",
              "libiscsi's tools tell no latencies: at depth 1 the mean is 1 / IOPS, for all alike."]
    lines += ["", "## Results", "",
              "`~`: the repeats' IOPS are more than 25 % apart. `*`: the machine had no CPU left, "
              "which bounds the IOPS. `#`: other work disturbed the cell. `!`: a repeat failed. "
              "Client: fio, where the initiator is the daemon. Paths: their share of the I/O.", "",
              results_tables(results, jobs, series)]
    return "\n".join(lines) + "\n"


PANELS = [
    ("Depth 1, mean latency in us (less is better)", "mean_us", ("r4k-q1", "w4k-q1")),
    ("4 KiB, depth 32, IOPS per CPU second of the initiator", "ios_per_cpu_s",
     ("r4k-q32", "w4k-q32")),
    ("4 KiB, depth 32, IOPS", "iops", ("r4k-q32", "w4k-q32")),
    ("128 KiB, MB/s", "mb_s", ("r128k-q8", "w128k-q8")),
    ("Rate-limited paths, MB/s", "mb_s", ("equal-r64k", "equal-w64k")),
    ("A path 5 ms farther away, IOPS", "iops", ("far-r4k", "far-w4k")),
]
COLORS = {"holdfast": "#1a73e8", "nbd": "#7baaf0", "libiscsi": "#e8710a"}


def svg(results, jobs, series):
    medians = report.Medians(results["cells"], METRICS)
    panels = []
    for title, metric, names in PANELS:
        groups = []
        for job in jobs:
            bars = [plot.Bar(one.title, value, COLORS[one.kind]) for one in series
                    if job.name in names
                    and (value := medians.get(job.name, one.name, metric)) is not None]
            if bars:
                groups.append((job.operation, bars))
        if groups:
            panels.append((title, groups))
    return plot.bars("Holdfast's multipath initiator and libiscsi, on the same target",
                     plot.subtitle(results), panels)
