#!/usr/bin/env bash
# Writes the generated parts of README.md: everything between `<!-- generated: NAME -->` and
# `<!-- end -->`. Figures come from docs/measurements/*.json, which ci/measure.sh writes, and
# versions and addresses from Cargo.toml.
#
#   ci/readme.sh            writes README.md
#   ci/readme.sh --check    fails if README.md is not what would be written
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 - "$@" <<'PY'
import json, pathlib, re, sys, tomllib

package = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["workspace"]["package"]
version = ".".join(package["version"].split(".")[:2])


def measured(name):
    """Returns a measurement, and a sentence on where it comes from."""
    result = json.loads(pathlib.Path("docs/measurements", f"{name}.json").read_text())
    busy = "" if result["quiet"] else ", with other programs running"
    source = f"`{result['command']}`, {result['date']}, {result['machine']}{busy}."
    return result["report"], source


def wrapped(text, indent=""):
    """Wraps a paragraph at 100 columns, without breaking code."""
    first, *words = re.findall(r"(?:`[^`]*`|[^\s`])+", text)
    lines = [first]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > 100:
            lines.append(indent + word)
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)


def table(head, rows):
    line = lambda cells: "| " + " | ".join(cells) + " |"
    rule = "|---|" + "--:|" * (len(head) - 1)
    return "\n".join([line(head), rule, *map(line, rows)])


def microseconds(ns):
    return f"{ns / 1000:.1f} µs"


def duration(seconds):
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def percent(ratio):
    return f"{(ratio - 1) * 100:+.0f} %".replace("-", "−")


def dependencies():
    return f"""```toml
[dependencies]
zswap-cache = "{version}"   # the cache
zswap = "{version}"         # the store below it, if you use that
```

Until it is on crates.io, or for the newest commit:

```toml
[dependencies]
zswap-cache = {{ git = "{package['repository']}" }}
zswap = {{ git = "{package['repository']}" }}
```"""


def status():
    return wrapped(
        f"**Status:** version {package['version']}, not on crates.io yet. It needs Rust "
        f"{package['rust-version']} and is tested on x86-64 Linux. "
        "[docs/targets.md](docs/targets.md) lists the other targets that should compile."
    )


def commands():
    if not pathlib.Path("docs/measurements/commands.json").exists():
        return "`ci/measure.sh commands` measures how long each takes from an empty target folder."
    report, source = measured("commands")
    return wrapped(
        f"The first takes {duration(report['first_seconds'])} and the second "
        f"{duration(report['second_seconds'])}, each from an empty target folder with all crates "
        f"downloaded: {source}"
    )


def pairs():
    report, source = measured("analyze")
    rows = []
    for pair in report["results"]:
        if not pair["verified"]:
            sys.exit("a pair returned wrong bytes: these are no figures for a README")
        rows.append([
            f"{pair['allocator']}+{pair['compressor']}",
            f"{report['input']['bytes'] / pair['resident_bytes']:.2f}",
            microseconds(pair["store_ns"]["p50"]),
            microseconds(pair["load_ns"]["p50"]),
        ])
    head = ["allocator and codec", "times smaller", "store, median", "load, median"]
    given = report["input"]
    intro = wrapped(
        f"The memory of a Python process, {given['bytes'] >> 20} MiB of parsed JSON, its text and "
        f"an index, in blocks of {given['block_size'] >> 10} KiB. "
        "`ci/sample_process.py FILE` writes it to a file. *Times smaller* is input over resident "
        "memory, with everything included."
    )
    return intro + "\n\n" + table(head, rows) + "\n\n" + wrapped(source)


def books():
    report, source = measured("analyze")
    worst = max(
        abs(pair["pool_bytes"] + pair["index_bytes"] + pair["context_bytes"]
            - pair["resident_bytes"]) / pair["resident_bytes"]
        for pair in report["results"]
    )
    return wrapped(
        "- **Accurate accounts.** A store reports the bytes that the operating system counts as "
        f"resident, here within {worst * 100:.1f} %: {source}",
        indent="  ",
    )


def alternatives():
    report, source = measured("store")
    value = {figure["name"]: figure["value"] for figure in report["results"]}
    names = {"map": "a sharded map of lz4 vectors", "quick_cache": "quick_cache with lz4 vectors"}
    parts = ("bytes", "store", "load")
    rows = [
        [title, *(percent(value[f"{name}_{part}_over_ours"]) for part in parts)]
        for name, title in names.items()
    ]
    head = ["compared with a store", "memory", "time of a store", "time of a load"]
    return table(head, rows) + "\n\n" + wrapped(source)


def overhead():
    report, source = measured("overhead")
    [ratios] = report["results"]
    longer = lambda name: f"{(ratios[name] - 1) * 100:.0f} %"
    return wrapped(
        f"- **Every nanosecond counts**: with lz4, storing a page takes {longer('store_over_raw')} "
        f"longer than the codec alone, and loading one {longer('load_over_raw')}: {source}",
        indent="  ",
    )


BLOCKS = {f.__name__: f for f in
          (dependencies, status, commands, pairs, books, alternatives, overhead)}


def generate(match):
    name = match[1]
    if name not in BLOCKS:
        sys.exit(f"README.md: nothing generates `{name}`")
    unused.discard(name)
    return f"<!-- generated: {name} -->\n{BLOCKS[name]()}\n<!-- end -->"


unused = set(BLOCKS)
path = pathlib.Path("README.md")
old = path.read_text()
new = re.sub(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", generate, old, flags=re.S)
if unused:
    sys.exit(f"README.md has no place for {', '.join(sorted(unused))}")
if sys.argv[1:] == ["--check"]:
    if new != old:
        sys.exit("README.md is not what ci/readme.sh writes: run it")
    print(f"README.md: {len(BLOCKS)} parts are as generated")
elif sys.argv[1:]:
    sys.exit("usage: ci/readme.sh [--check]")
else:
    path.write_text(new)
PY
