"""The plot of a run: an SVG of horizontal bars, one panel for each question the run answers."""

import dataclasses
import html

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


def _height(groups):
    bars = sum(len(group) for _, group in groups)
    return PANEL_HEAD + bars * (BAR + GAP) + len(groups) * (BAR + GROUP_GAP)


def _panel(panel, groups, x, y, width):
    out = [_text(x, y + 20, panel.title, 14, "font-weight='bold'")]
    most = max(value for _, bars in groups for _, value in bars) or 1
    room = width - LABEL_WIDTH - VALUE_WIDTH
    top = y + PANEL_HEAD - 10
    for title, bars in groups:
        out.append(_text(x, top + BAR - 3, title, 12, "font-style='italic'"))
        top += BAR + GAP
        for one, value in bars:
            variant = one.spin or one.threads > 1 or one.engine == "aio"
            color = (LIGHT if variant else COLORS)[one.kind]
            length = max(room * value / most, 1)
            out += [
                _text(x + LABEL_WIDTH - 6, top + BAR - 3, one.title, 11, "text-anchor='end'"),
                f"<rect x='{x + LABEL_WIDTH}' y='{top}' width='{length:.1f}' height='{BAR}' "
                f"fill='{color}'/>",
                _text(x + LABEL_WIDTH + length + 5, top + BAR - 3, report.number(value), 11),
            ]
            top += BAR + GAP
        top += GROUP_GAP - GAP
    return out


def svg(results, jobs, series):
    """The plot as SVG text. Panels without a measured value are left out."""
    medians = report.Medians(results["cells"])
    filled = [(panel, groups) for panel in PANELS
              if (groups := bars_of(panel, medians, jobs, series))]
    width = (WIDTH - MARGIN * (COLUMNS + 1)) / COLUMNS
    out = []
    y = MARGIN + 40
    for start in range(0, len(filled), COLUMNS):
        row = filled[start:start + COLUMNS]
        for column, (panel, groups) in enumerate(row):
            out += _panel(panel, groups, MARGIN + column * (width + MARGIN), y, width)
        y += max(_height(groups) for _, groups in row) + MARGIN
    head = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{y:.0f}' "
        f"viewBox='0 0 {WIDTH} {y:.0f}'>",
        "<rect width='100%' height='100%' fill='white'/>",
        _text(MARGIN, MARGIN + 10, "Holdfast's iSCSI target, tgt, and a bare TCP exchange, side by "
              "side on loopback", 18, "font-weight='bold'"),
        _text(MARGIN, MARGIN + 30, f"{results['started']}, commit {results['commit']}, "
              f"{results['machine']['cores']} cores, kernel {results['machine']['kernel']}, "
              f"medians of {results['repeats']}", 12, "fill='#555'"),
    ]
    return "\n".join([*head, *out, "</svg>"]) + "\n"
