#!/usr/bin/python3
"""Makes tables and charts from what was measured, and puts them into bench/README.md.

    bench/report.py

Reads bench/results/bench.json, flat.json and large.json, as far as they are there; writes
results/ratios.svg, snapshot.svg and million.svg; and replaces what stands between the markers
"<!-- bench -->" and "<!-- end of bench -->" (likewise "flat" and "large") in the README.
"""

import json
import math
import os
import re
from xml.sax.saxutils import escape

HERE = os.path.dirname(os.path.abspath(__file__))
OURS, OTHER, GOAL = "#1b6ca8", "#c2571a", "#333333"


def load(name):
    path = f"{HERE}/results/{name}.json"
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return json.load(file)


# Markdown

def number(x):
    if x is None:
        return "–"
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def table(head, lines, align=None):
    align = align or [":--"] + ["--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, align] + lines) + "\n"


def describe(report):
    machine, versions, settings = report["machine"], report["versions"], report["settings"]
    return (f"Measured at {report['measured_at'][:16].replace('T', ' ')} UTC, commit `{report['commit']}`, in {report['took_s'] // 60} min, "
            f"{settings['rounds']} rounds{' of %s s' % settings['seconds'] if 'seconds' in settings else ''}; {machine['cpus']} CPUs ({machine['cpu']}), "
            f"{machine['memory_gb']} GB, Linux {machine['kernel']}, load at the end {machine['load_at_end'][0]:.1f}.\n\n"
            "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ". Settings: " +
            ", ".join(f"`{name}={value}`" for name, value in settings.items() if name not in ("rounds", "seconds")) + ".\n")


def goals(report):
    lines = [[f["name"], f["goal"] + (f" {f['unit']}" if f["unit"] else ""), number(f["value"]),
              "reached" if f["reached"] else "**missed**"] for f in report["figures"] if f["goal"]]
    return table(["goal", "", "measured", ""], lines, [":--", ":--", "--:", ":--"]) if lines else ""


def comparisons(report):
    out = []
    for comparison in report["comparisons"]:
        clients = [str(c) for c in comparison["clients"]]
        lines = [[side["name"]] + [number(side["cells"][c]["median"]) for c in clients] for side in comparison["sides"]]
        lines += [[f"*{ratio['name']}*"] + [f"*{ratio['cells'][c]:.2f}*" for c in clients] for ratio in comparison["ratios"]]
        head = [f"{c} client{'s' if c != '1' else ''}" for c in clients]
        out.append(f"**{comparison['name']}** ({comparison['unit']})\n\n" + table([""] + head, lines))
    return "\n".join(out)


def others(report):
    lines = [[f["name"], f"{number(f['value'])} {f['unit']}"] for f in report["figures"] if not f["goal"]]
    return table(["also measured", ""], lines) if lines else ""


def missing(report):
    return "".join(f"- missing: {m['what']}: {m['why']}\n" for m in report["missing"])


# Charts

def svg(width, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="12" fill="#222">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n")


def text(x, y, what, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(what)}</text>'


def line(x1, y1, x2, y2, colour="#ccc", width=1, extra=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}" {extra}/>'


def ratio_chart(report):
    """A bar for each of coord's ratios to a yardstick, on a logarithmic scale."""
    bars = []
    for comparison in report["comparisons"]:
        for ratio in comparison["ratios"]:
            if ratio["name"].startswith("coord / "):
                clients = str(ratio["at"]) if str(ratio["at"]) in ratio["cells"] else max(ratio["cells"], key=int)
                at = f", {clients} clients" if len(ratio["cells"]) > 1 else ""
                bars.append((f"{comparison['name']}{at}: / {ratio['name'].removeprefix('coord / ')}", ratio["cells"][clients], ratio["at_least"]))
    left, scale, top, step = 480, 300, 50, 22
    seen = [r for _, r, _ in bars if r > 0] + [goal for *_, goal in bars if goal] + [1]
    low, high = math.floor(math.log10(min(seen))), math.ceil(math.log10(max(seen)))

    def x(ratio):
        return left + scale * (math.log10(max(ratio, 10 ** low)) - low) / max(1, high - low)

    bottom = top + step * len(bars)
    body = [text(10, 20, "coord divided by the yardstick; right of 1 coord is faster", extra='font-size="14"')]
    for power in range(low, high + 1):
        body += [line(x(10 ** power), top - 8, x(10 ** power), bottom), text(x(10 ** power), top - 12, f"{10.0 ** power:g}", "middle")]
    for n, (name, ratio, goal) in enumerate(bars):
        y = top + n * step
        a, b = sorted((x(1), x(ratio)))
        body += [text(left - 8, y + 13, name, "end"),
                 f'<rect x="{a:.1f}" y="{y + 3}" width="{max(1, b - a):.1f}" height="{step - 8}" fill="{OURS if ratio >= 1 else OTHER}"/>',
                 text(max(b, x(1)) + 6, y + 13, f"{ratio:.2f}")]
        if goal:
            body.append(line(x(goal), y, x(goal), y + step - 3, GOAL, 2))
    body += [line(x(1), top - 8, x(1), bottom, "#666"), text(10, bottom + 20, "A dark tick is the goal."),]
    return svg(left + scale + 60, bottom + 32, body)


def snapshot_chart(lines):
    """Each line as a share of its own rate before the snapshot was taken."""
    left, top, width, height = 50, 50, 560, 240
    last = max(at for one in lines for at, _ in one["points"])
    first = min(0, *(at for one in lines for at, _ in one["points"]))
    shares = []
    for one in lines:
        before = [rate for at, rate in one["points"] if at <= 0] or [one["points"][0][1]]
        base = sum(before) / len(before)
        shares.append([(at, rate / base) for at, rate in one["points"]])
    top_share = max(1.2, math.ceil(5 * max(share for points in shares for _, share in points)) / 5)

    def place(at, share):
        return left + width * (at - first) / (last - first), top + height * (1 - share / top_share)

    body = [text(10, 20, "claim + complete while a snapshot is held, as a share of the rate before", extra='font-size="14"')]
    for tenth in range(0, int(5 * top_share) + 1):
        _, y = place(0, tenth / 5)
        body += [line(left, y, left + width, y), text(left - 6, y + 4, f"{tenth / 5:.1f}", "end")]
    for at in range(0, last + 1, 10):
        x, y = place(at, 0)
        body.append(text(x, y + 16, f"{at} s", "middle"))
    x, y = place(0, 0)
    body += [line(x, top, x, y, "#666", 1, 'stroke-dasharray="4 3"'), text(x + 4, top + 12, "snapshot taken")]
    for n, (one, points) in enumerate(zip(lines, shares)):
        colour = OURS if one["name"] == "coord" else OTHER
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        body += [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>',
                 line(left + 180 * n, 36, left + 180 * n + 24, 36, colour, 3), text(left + 180 * n + 30, 40, one["name"])]
    return svg(left + width + 20, top + height + 30, body)


def steady_chart(panels):
    """Panels of lines over the same time, one below the other, each from zero: pairs of a title and lines."""
    left, top, width, height, gap = 60, 50, 560, 150, 70
    last = max(at for _, lines in panels for one in lines for at, _ in one["points"])
    body = []
    for n, (title, lines) in enumerate(panels):
        above = top + n * (height + gap)
        most = max(value for one in lines for _, value in one["points"])
        step = 10 ** math.floor(math.log10(most)) / (1 if most / 10 ** math.floor(math.log10(most)) > 4 else 2)

        def place(at, value):
            return left + width * at / last, above + height * (1 - value / (most * 1.05))

        body.append(text(10, above - 30, title, extra='font-size="14"'))
        for tick in range(int(most / step) + 1):
            _, y = place(0, tick * step)
            body += [line(left, y, left + width, y), text(left - 6, y + 4, f"{tick * step:,.0f}", "end")]
        for at in range(0, last + 1, 30 if last > 60 else 10):
            x, y = place(at, 0)
            body.append(text(x, y + 16, f"{at} s", "middle"))
        for m, one in enumerate(lines):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in one["points"]))
            colour, dash = (OURS, "") if m == 0 else (OTHER, 'stroke-dasharray="6 3"')
            body += [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5" {dash}/>',
                     line(left + 220 * m, above - 14, left + 220 * m + 24, above - 14, colour, 3, dash),
                     text(left + 220 * m + 30, above - 10, one["name"])]
    return svg(left + width + 20, top + len(panels) * (height + gap) - 30, body)


def replace(readme, name, content):
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.S)
    if not pattern.search(readme):
        raise SystemExit(f"bench/README.md lacks the markers {begin} and {end}")
    return pattern.sub(lambda _: "\n" + content + "\n", readme)


def save(name, content):
    with open(f"{HERE}/{name}", "w") as file:
        file.write(content)


def main():
    with open(f"{HERE}/README.md") as file:
        readme = file.read()
    if report := load("bench"):
        save("results/ratios.svg", ratio_chart(report))
        readme = replace(readme, "bench", "\n".join(part for part in (
            describe(report), goals(report), missing(report), "![coord divided by each yardstick](results/ratios.svg)\n",
            comparisons(report), others(report)) if part))
    if report := load("flat"):
        held = [one for one in report["lines"] if one["chart"] == "held snapshot"]
        chart = ""
        if held:
            save("results/snapshot.svg", snapshot_chart(held))
            chart = "![claim + complete under a held snapshot](results/snapshot.svg)\n"
        steady = [(f"a million tasks: {unit}", lines) for unit in ("rounds/s", "MiB")
                  if (lines := [one for one in report["lines"] if one["chart"] == f"million: {unit}"])]
        if steady:
            save("results/million.svg", steady_chart(steady))
            chart += "\n![a million tasks pass through a queue](results/million.svg)\n"
        readme = replace(readme, "flat", "\n".join(part for part in (
            describe(report), goals(report), missing(report), chart, comparisons(report), others(report)) if part))
    if report := load("large"):
        readme = replace(readme, "large", "\n".join((describe(report), goals(report), others(report))))
    save("README.md", readme)


if __name__ == "__main__":
    main()
