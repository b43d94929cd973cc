"""Compares the reports of ci/compare.sh.

They are called PROGRAM.FILE.ROUND.SIDE.json, and the sides are `base` and `head`.
"""

import json
import pathlib
import re
import statistics
import sys

# A figure may get worse by this share before it is marked.
TOLERANCE = 0.02

# Not figures of ours: sizes of the run, yardsticks without code of this workspace, and other views
# of the same times (ranges, other clocks).
IGNORED = re.compile(
    r"^(pages|rounds|entries|ratio|raw_.*|ranges\..*|wall\..*|zram\.raw_.*"
    r"|machine_.*|arc_.*|slice_.*|churn_mimalloc_ns|read_p999_without_compaction_ns)$"
)

# Figures that are better when they are larger. All others are better when they are smaller.
LARGER = re.compile(
    r"_speedup|_scaling$|_two_threads_over_one$|throughput|^hit_ratio|^noise_found$"
    r"|^(load|store)_many_over_|^(map|quick_cache)_.*_over_ours$"
)


def leaves(value, path=""):
    """Yields (path, number) for every number of a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, float(value)


def figures(report):
    """Yields ((workload, name), value) for every figure of a report, whatever its program."""
    results = report.get("results")
    if results is None:
        yield from ((("", path), number) for path, number in leaves(report))
        return
    for row in results:
        if "name" in row:
            yield (row.get("file", ""), row["name"]), float(row["value"])
        else:
            yield from (((row["codec"], path), number) for path, number in leaves(row))


def worse_by(name, ratio):
    """Returns by what share the median got worse; negative if it got better."""
    return 1 / ratio - 1 if LARGER.search(name) else ratio - 1


def collect(folder):
    """Returns {(program, file, workload, name): {side: [value of each round]}}."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        program, file, _, side = path.stem.split(".")
        for (workload, name), value in figures(json.loads(path.read_text())):
            if not IGNORED.match(name):
                sides = found.setdefault((program, file, workload, name), {"base": [], "head": []})
                sides[side].append(value)
    return found


def line(key, base, head):
    """Returns the line of a figure, and whether it got worse."""
    label = " ".join(part for part in key if part and part != "none")
    if not base or not head:
        return f"{label:78} only in {'base' if base else 'head'}", False
    before, after = statistics.median(base), statistics.median(head)
    text = f"{label:78} {before:12.4g} {after:12.4g}"
    if before <= 0 or after <= 0:
        return f"{text}  no ratio", False
    ratio = after / before
    worse = worse_by(key[3], ratio) > TOLERANCE
    mark = "  WORSE" if worse else ""
    if worse and min(base) <= max(head) and min(head) <= max(base):
        mark += " (ranges overlap)"
    return f"{text} {ratio:7.3f}{mark}", worse


def main():
    found = collect(pathlib.Path(sys.argv[1]))
    if not found:
        sys.exit("there are no reports")
    print(f"{'figure':78} {'base':>12} {'head':>12} {'ratio':>7}")
    worse = 0
    for key, sides in found.items():
        text, is_worse = line(key, sides["base"], sides["head"])
        worse += is_worse
        print(text)
    print(f"{worse} of {len(found)} figures are worse by more than {TOLERANCE:.0%}")
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
