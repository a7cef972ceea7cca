"""The arithmetic of a run and its tables. Pure: results in, text out.

A cell is {"job", "series", "runs": [figures], "error": text or None}; figures are those of
lib/fio.py plus target_cpu_us, the target's CPU microseconds per I/O.
"""

import dataclasses
import statistics

METRICS = ["iops", "mb_s", "p50_us", "p99_us", "target_cpu_us", "generator_cpu_us"]

# What SPDK's iSCSI target reached for each I/O of tgt (rdwr) when both were measured side by side,
# on memory, on 2 cores. SPDK is not in Debian, so it is not part of a run.
SPDK_OVER_TGT = {"r4k-q32": 131 / 33, "w4k-q32": 83 / 35}
MOST_CPU_US = 6.0
LEAST_PER_CPU_SECOND = 5.0
MOST_LATENCY_RATIO = 1.3
MOST_SEQUENTIAL_FACTOR = 1.2
NOISY_SPREAD = 0.25
SATURATED = 0.95  # of a core for each session of the generator, or of all cores
MOST_DISTURBED = 0.1  # of the cells
DISTURBED_CORES = 0.2  # the kernel's own threads alone stay below it


def figures_of(run):
    """A run's figures with what follows from them."""
    return run | {"generator_cpu_us": run["generator_cpu_s"] * 1e6 / run["ios"]}


def median_of(runs, metrics=tuple(METRICS)):
    """The median of each metric by itself; None where no run has it."""
    out = {}
    for metric in metrics:
        values = [run[metric] for run in runs if run.get(metric) is not None]
        out[metric] = statistics.median(values) if values else None
    return out


def spread_of(runs):
    """(largest - smallest) / median of the IOPS: how far the repeats are apart."""
    values = [run["iops"] for run in runs]
    return (max(values) - min(values)) / statistics.median(values) if values else 0.0


def ratio(left, right):
    """left / right, or None where either is missing or right is 0."""
    if left is None or right is None or right == 0:
        return None
    return left / right


def is_disturbed(runs):
    """Whether other processes or the host took more than a trace of the machine."""
    return statistics.median(run["others_cores"] for run in runs) > DISTURBED_CORES


def disturbed_share(cells):
    """The share of the measured cells that is disturbed."""
    measured = [cell["runs"] for cell in cells if cell["runs"]]
    return sum(map(is_disturbed, measured)) / len(measured) if measured else 0.0


def disturbed_warnings(cells):
    share = disturbed_share(cells)
    if share <= MOST_DISTURBED:
        return []
    return [f"in {share:.0%} of the cells other work took a noticeable part of the machine: repeat "
            "the run on an idle one"]


def is_saturated(runs, sessions, cores):
    """Whether the generator, or it and the target together, had no CPU left."""
    generator = statistics.median(run["generator_cpu_s"] / (run["ios"] / run["iops"])
                                  for run in runs)
    machine = statistics.median(run["busy_cores"] for run in runs)
    return generator > SATURATED * sessions or machine > SATURATED * cores


class Medians:
    """Medians by (job, series); None for what was not measured."""

    def __init__(self, cells, metrics=tuple(METRICS)):
        self._cells = {(cell["job"], cell["series"]): median_of(cell["runs"], metrics)
                       for cell in cells if cell["runs"]}

    def get(self, job, series, metric):
        cell = self._cells.get((job, series))
        return cell[metric] if cell else None

    def has(self, job, series):
        return (job, series) in self._cells


def floor_for(series):
    """The bare exchange that a series of ours is held against."""
    if series.spin:
        return "floor-spin"
    return "floor-2t" if series.threads > 1 else "floor"


def ratios(cells, jobs, series):
    """One row for each job and series of ours: against tgt (both engines) and against the floor."""
    medians = Medians(cells)
    rows = []
    for job in jobs:
        for ours in (one for one in series if one.kind == "holdfast"):
            if not medians.has(job.name, ours.name):
                continue

            def against(metric, other, name=ours.name, job_name=job.name):
                return ratio(medians.get(job_name, name, metric),
                             medians.get(job_name, other, metric))

            def per_cpu(other):
                cpu = against("target_cpu_us", other)
                return None if not cpu else 1 / cpu

            tgt = f"tgt-{ours.backing}"
            floor = floor_for(ours)
            rows.append({
                "job": job.name, "series": ours.name,
                "iops_over_tgt": against("iops", tgt),
                "iops_over_tgt_aio": against("iops", tgt + "-aio"),
                "iops_per_cpu_second_over_tgt": per_cpu(tgt),
                "iops_per_cpu_second_over_tgt_aio": per_cpu(tgt + "-aio"),
                "iops_over_floor": against("iops", floor),
                "p50_over_floor": against("p50_us", floor),
                "cpu_over_floor": against("target_cpu_us", floor),
            })
    return rows


@dataclasses.dataclass(frozen=True)
class Aim:
    text: str
    value: float | None  # None: this run has not measured it
    limit: float
    at_least: bool
    unit: str = ""

    @property
    def verdict(self):
        if self.value is None:
            return "not measured"
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "met" if met else "not met"


def aims(cells):
    """The aims for the target's speed. All but the first kind are ratios within this run."""
    medians = Medians(cells)

    def over(metric, left, right):
        return ratio(medians.get(*left, metric), medians.get(*right, metric))

    out = []
    for job, what in (("r4k-q32", "random read"), ("w4k-q32", "random write")):
        ours, tgt = (job, "holdfast-ram"), (job, "tgt-ram")
        out += [
            Aim(f"4 KiB {what}, depth 32: target CPU per I/O", medians.get(*ours, "target_cpu_us"),
                MOST_CPU_US, False, " us"),
            Aim(f"4 KiB {what}, depth 32: IOPS per CPU second / tgt",
                over("target_cpu_us", tgt, ours), LEAST_PER_CPU_SECOND, True),
            Aim(f"4 KiB {what}, depth 32: IOPS / tgt (wanted: SPDK's ratio)",
                over("iops", ours, tgt), SPDK_OVER_TGT[job], True),
        ]
    for job, what in (("r4k-q1", "read"), ("w4k-q1", "write")):
        out += [
            Aim(f"4 KiB {what}, depth 1: p50 / sleeping exchange",
                over("p50_us", (job, "holdfast-ram"), (job, "floor")), MOST_LATENCY_RATIO, False),
            Aim(f"4 KiB {what}, depth 1, spin: p50 / spinning exchange",
                over("p50_us", (job, "holdfast-ram-spin"), (job, "floor-spin")),
                MOST_LATENCY_RATIO, False),
        ]
    for job, what in (("r128k-q8", "read"), ("w128k-q8", "write")):
        out.append(Aim(f"128 KiB sequential {what}: bare exchange's MB/s / ours",
                       over("mb_s", (job, "floor"), (job, "holdfast-ram")),
                       MOST_SEQUENTIAL_FACTOR, False))
    for job, what in (("r4k-q32", "read"), ("w4k-q32", "write")):
        two = (job + "-s4", "holdfast-ram-2t")
        out += [
            Aim(f"4 KiB {what}: IOPS of 4 sessions on 2 threads / 1 session on 1 thread",
                over("iops", two, (job, "holdfast-ram")), 1.0, True),
            Aim(f"4 KiB {what}: IOPS of 4 sessions on 2 threads / the same on 1 thread",
                over("iops", two, (job + "-s4", "holdfast-ram")), 1.0, True),
        ]
    return out


# --- tables -------------------------------------------------------------------------------------


def number(value, unit=""):
    """Three significant digits below 1000, thousands with a k; '-' for what is missing."""
    if value is None:
        return "-"
    if abs(value) >= 10000:
        text = f"{value / 1000:.0f}k" if abs(value) >= 100000 else f"{value / 1000:.1f}k"
    elif abs(value) >= 100:
        text = f"{value:.0f}"
    elif abs(value) >= 10:
        text = f"{value:.1f}"
    else:
        text = f"{value:.2f}"
    return text + unit


def table(head, rows):
    """A markdown table whose columns line up as plain text too."""
    cells = [head, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]

    def line(row):
        padded = [row[0].ljust(widths[0])]
        padded += [text.rjust(width) for text, width in zip(row[1:], widths[1:])]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if i else "-")
                          for i, width in enumerate(widths)) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def _notes(cell, job, cores):
    runs = cell["runs"]
    return (("~" if spread_of(runs) > NOISY_SPREAD else "")
            + ("*" if is_saturated(runs, job.sessions, cores) else "")
            + ("#" if is_disturbed(runs) else "") + ("!" if cell["error"] else ""))


def _result_row(one, cell, job, cores):
    if not cell["runs"]:
        return [one.title, "failed", "", "", "", "", "", ""]
    medians = median_of(cell["runs"])
    return [one.title, *(number(medians[metric]) for metric in METRICS), _notes(cell, job, cores)]


def results_tables(results, jobs, series):
    head = ["", "IOPS", "MB/s", "p50 us", "p99 us", "target CPU us/IO", "generator CPU us/IO", ""]
    cells = {(cell["job"], cell["series"]): cell for cell in results["cells"]}
    cores = results["machine"]["cores"]
    parts = []
    for job in jobs:
        rows = [_result_row(one, cells[job.name, one.name], job, cores)
                for one in series if (job.name, one.name) in cells]
        if rows:
            parts.append(f"**{job.title}** (`{job.name}`)\n\n" + table(head, rows))
    return "\n\n".join(parts)


def ratios_table(rows):
    head = ["ours", "IOPS / tgt", "/ tgt aio", "IOPS per CPU s / tgt", "/ tgt aio",
            "IOPS / floor", "p50 / floor", "CPU / floor"]
    keys = ["iops_over_tgt", "iops_over_tgt_aio", "iops_per_cpu_second_over_tgt",
            "iops_per_cpu_second_over_tgt_aio", "iops_over_floor", "p50_over_floor",
            "cpu_over_floor"]
    return table(head, [[f"{row['job']} {row['series']}", *(number(row[key]) for key in keys)]
                        for row in rows])


def aims_as_dicts(aims):
    return [dataclasses.asdict(aim) | {"verdict": aim.verdict} for aim in aims]


def aims_table(rows):
    return table(["aim", "measured", "wanted", "verdict"],
                 [[aim.text, number(aim.value, aim.unit),
                   (">= " if aim.at_least else "<= ") + number(aim.limit, aim.unit), aim.verdict]
                  for aim in rows])


def warnings_and_failures(results):
    """Lines of a report; none when all went well."""
    lines = []
    if results["warnings"]:
        lines += ["", *(f"- Warning: {text}" for text in results["warnings"])]
    errors = [f"- {cell['job']} {cell['series']}: {cell['error']}"
              for cell in results["cells"] if cell["error"]]
    if errors:
        lines += ["", "## Failures", "", *errors]
    return lines


def markdown(results, jobs, series):
    """The whole report; headings start at the second level."""
    machine = results["machine"]
    lines = [
        f"Run of {results['started']}, commit {results['commit']}: {results['repeats']} x "
        f"{results['seconds']} s per cell, medians; {results['generator']}; {results['tgt']}; "
        f"LUNs of {results['size_mib']} MiB; spin setting {results['spin_us']} us.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, kernel {machine['kernel']}, "
        f"{machine['memory_gib']} GiB.",
    ]
    lines += warnings_and_failures(results)
    lines += ["", "## Aims", "", aims_table(aims(results["cells"]))]
    rows = ratios(results["cells"], jobs, series)
    if rows:
        lines += ["", "## Ratios", "", "tgt is its default engine (rdwr) on the same backing; "
                  "floor is the bare TCP exchange of the same sizes.", "", ratios_table(rows)]
    lines += ["", "## Results", "",
              "`~`: the repeats' IOPS are more than 25 % apart. `*`: the load generator, or the "
              "machine, had no CPU left, which bounds the IOPS. `#`: other work disturbed the "
              "cell. `!`: a repeat failed.", "",
              results_tables(results, jobs, series)]
    return "\n".join(lines) + "\n"
