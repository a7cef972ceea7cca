"""docs/bench.md: each benchmark has a section of its own, which publishing it rewrites."""

import json

from bench.lib import install

PAGE = install.ROOT / "docs" / "bench.md"


def marks(benchmark):
    return (f"<!-- bench:{benchmark}:begin, rewritten by bench/run {benchmark} --publish -->",
            f"<!-- bench:{benchmark}:end -->")


def with_section(page, benchmark, section):
    """`page` with what lies between the marks of a benchmark replaced."""
    first, last = marks(benchmark)
    begin, end = page.find(first), page.find(last)
    if begin < 0 or end < begin:
        raise ValueError(f"the page lacks its marks '{first}' and '{last}'")
    return page[:begin + len(first)] + "\n\n" + section.strip() + "\n\n" + page[end:]


def write(directory, results, text, svg):
    """A report, its figures and its plot into `directory`; returns the report."""
    directory.mkdir(parents=True, exist_ok=True)
    name = results["benchmark"]
    (directory / f"{name}.md").write_text(text)
    (directory / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (directory / f"{name}.svg").write_text(svg)
    return text


def publish(benchmark, text, svg):
    """A report and its plot into docs/."""
    plot = PAGE.with_name(f"bench-{benchmark}.svg")
    # Below the heading that the page has for the benchmark.
    section = f"![Plot of the run]({plot.name})\n\n{text}"
    PAGE.write_text(with_section(PAGE.read_text(), benchmark, section))
    plot.write_text(svg)
