"""The plot of a run: an SVG of horizontal bars, one panel for each question the run answers; and
one of dots, for distributions."""

import dataclasses
import html
import math

from bench.lib import report

WIDTH = 1180
MARGIN = 24
COLUMNS = 2
LABEL_WIDTH = 210
VALUE_WIDTH = 62
BAR = 15
GAP = 4
GROUP_GAP = 12
PANEL_HEAD = 44
HEAD = MARGIN + 40  # room for the heading
STRIP = 34
STRIP_LABEL = 330
FONT = "font-family='DejaVu Sans, Helvetica, Arial, sans-serif'"
COLORS = {"floor": "#9aa0a6", "holdfast": "#1a73e8", "tgt": "#e8710a"}
LIGHT = {"floor": "#c4c7cc", "holdfast": "#7baaf0", "tgt": "#f3b27c"}


@dataclasses.dataclass(frozen=True)
class Panel:
    title: str
    metric: str
    jobs: tuple
    backings: tuple  # series of these; the floor has none


PANELS = [
    Panel("Depth 1, p50 in us (less is better)", "p50_us", ("r4k-q1", "w4k-q1"), ("", "ram")),
    Panel("4 KiB, depth 32, target CPU us per I/O (less is better)", "target_cpu_us",
          ("r4k-q32", "w4k-q32"), ("", "ram")),
    Panel("4 KiB, depth 32, IOPS, memory", "iops", ("r4k-q32", "w4k-q32"), ("", "ram")),
    Panel("4 KiB, depth 32, IOPS, file", "iops", ("r4k-q32", "w4k-q32"), ("disk",)),
    Panel("128 KiB sequential, MB/s, memory", "mb_s", ("r128k-q8", "w128k-q8"), ("", "ram")),
    Panel("128 KiB sequential, MB/s, file", "mb_s", ("r128k-q8", "w128k-q8"), ("disk",)),
    Panel("4 KiB, depth 32, 4 sessions, IOPS, memory", "iops", ("r4k-q32-s4", "w4k-q32-s4"),
          ("", "ram")),
    Panel("4 KiB, depth 32, 4 sessions, target CPU us per I/O, memory", "target_cpu_us",
          ("r4k-q32-s4", "w4k-q32-s4"), ("", "ram")),
]


def _text(x, y, text, size=12, extra=""):
    return (f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' {FONT} {extra}>"
            f"{html.escape(text)}</text>")


def bars_of(panel, medians, jobs, series):
    """[(job title, [(series, value)])] of what was measured for the panel."""
    groups = []
    for job in jobs:
        if job.name not in panel.jobs:
            continue
        bars = [(one, medians.get(job.name, one.name, panel.metric)) for one in series
                if one.backing in panel.backings]
        bars = [(one, value) for one, value in bars if value is not None]
        if bars:
            groups.append((job.operation, bars))
    return groups


@dataclasses.dataclass(frozen=True)
class Bar:
    label: str
    value: float
    color: str


def _height(groups):
    count = sum(len(group) for _, group in groups)
    return PANEL_HEAD + count * (BAR + GAP) + len(groups) * (BAR + GROUP_GAP)


def _panel(title, groups, x, y, width):
    out = [_text(x, y + 20, title, 14, "font-weight='bold'")]
    most = max(bar.value for _, group in groups for bar in group) or 1
    room = width - LABEL_WIDTH - VALUE_WIDTH
    top = y + PANEL_HEAD - 10
    for name, group in groups:
        out.append(_text(x, top + BAR - 3, name, 12, "font-style='italic'"))
        top += BAR + GAP
        for bar in group:
            length = max(room * bar.value / most, 1)
            out += [
                _text(x + LABEL_WIDTH - 6, top + BAR - 3, bar.label, 11, "text-anchor='end'"),
                f"<rect x='{x + LABEL_WIDTH}' y='{top}' width='{length:.1f}' height='{BAR}' "
                f"fill='{bar.color}'/>",
                _text(x + LABEL_WIDTH + length + 5, top + BAR - 3, report.number(bar.value), 11),
            ]
            top += BAR + GAP
        top += GROUP_GAP - GAP
    return out


def picture(heading, below, height, parts):
    """An SVG with a heading; `parts` are drawn from HEAD down."""
    head = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height:.0f}' "
        f"viewBox='0 0 {WIDTH} {height:.0f}'>",
        "<rect width='100%' height='100%' fill='white'/>",
        _text(MARGIN, MARGIN + 10, heading, 18, "font-weight='bold'"),
        _text(MARGIN, MARGIN + 30, below, 12, "fill='#555'"),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def bars(heading, below, panels):
    """Panels of horizontal bars: [(title, [(group, [Bar])])]."""
    width = (WIDTH - MARGIN * (COLUMNS + 1)) / COLUMNS
    out = []
    y = HEAD
    for start in range(0, len(panels), COLUMNS):
        row = panels[start:start + COLUMNS]
        for column, (title, groups) in enumerate(row):
            out += _panel(title, groups, MARGIN + column * (width + MARGIN), y, width)
        y += max(_height(groups) for _, groups in row) + MARGIN
    return picture(heading, below, y, out)


@dataclasses.dataclass(frozen=True)
class Strip:
    """One line of dots on a logarithmic axis; `limit` is drawn as a mark."""
    label: str
    values: list
    color: str
    limit: float | None = None


def strips(heading, below, lines, unit):
    """A dot for each value: a distribution is seen whole."""
    values = [value for line in lines for value in line.values if value > 0]
    values += [line.limit for line in lines if line.limit]
    low = math.floor(math.log10(min(values, default=1)))
    high = max(math.ceil(math.log10(max(values, default=10))), low + 1)
    left, right = MARGIN + STRIP_LABEL, WIDTH - 2 * MARGIN
    bottom = HEAD + len(lines) * STRIP

    def x_of(value):
        share = (math.log10(max(value, 10 ** low)) - low) / (high - low)
        return left + share * (right - left)

    out = []
    for power in range(low, high + 1):
        x = x_of(10 ** power)
        out += [f"<line x1='{x:.1f}' y1='{HEAD}' x2='{x:.1f}' y2='{bottom}' stroke='#ddd'/>",
                _text(x, bottom + 16, f"{10 ** power:g} {unit}", 11, "text-anchor='middle'")]
    for number, line in enumerate(lines):
        y = HEAD + number * STRIP + STRIP / 2
        out.append(_text(left - 10, y + 4, line.label, 12, "text-anchor='end'"))
        if line.limit:
            x = x_of(line.limit)
            out.append(f"<line x1='{x:.1f}' y1='{y - 10}' x2='{x:.1f}' y2='{y + 10}' "
                       "stroke='#d93025' stroke-width='2'/>")
        out += [f"<circle cx='{x_of(value):.1f}' cy='{y}' r='4' fill='{line.color}' "
                "fill-opacity='0.45'/>" for value in line.values]
    return picture(heading, below, bottom + 30, out)


def subtitle(results):
    machine = results["machine"]
    return (f"{results['started']}, commit {results['commit']}, {machine['cores']} cores, kernel "
            f"{machine['kernel']}, {results['repeats']} repeats")


def svg(results, jobs, series):
    """The plot of the target's run. Panels without a measured value are left out."""
    medians = report.Medians(results["cells"])

    def color(one):
        variant = one.spin or one.threads > 1 or one.engine == "aio"
        return (LIGHT if variant else COLORS)[one.kind]

    panels = []
    for panel in PANELS:
        groups = [(title, [Bar(one.title, value, color(one)) for one, value in found])
                  for title, found in bars_of(panel, medians, jobs, series)]
        if groups:
            panels.append((panel.title, groups))
    return bars("Holdfast's iSCSI target, tgt, and a bare TCP exchange, side by side on loopback",
                subtitle(results), panels)
