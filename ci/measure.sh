#!/usr/bin/env bash
# Measures the figures of README.md, and writes each result to docs/measurements/NAME.json.
#
#   ci/measure.sh [NAME...]      commands analyze store overhead (all of them if none is named)
#
#   commands   the two commands of README.md, each from an empty target folder (10 min)
#   analyze    zlab analyze: every allocator with every codec (2 min)
#   store      a store against a map of lz4 vectors and against quick_cache (3 min)
#   overhead   a store over its codec alone (4 min)
#
# The input is the memory of ci/sample_process.py. Times are worth something on a quiet machine
# only, so each result says whether it was. Afterwards, ci/readme.sh writes README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
out=docs/measurements
zlab="cargo run --release --locked --"
bench="cargo run --release --locked -p benches --bin"

pages() { [ -e "$scratch/pages" ] || ci/sample_process.py "$scratch/pages" >&2; }

# Runs a command that prints JSON, and writes that with date, machine and commit: NAME COMMAND...
record() {
    local name=$1
    shift
    echo "== $name: $*" >&2
    "$@" >"$scratch/report"
    export NAME=$name COMMAND=${*//$scratch\/pages/FILE}
    python3 - "$scratch/report" >"$scratch/json" <<'PY'
import datetime, json, os, pathlib, platform, re, subprocess, sys

model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
json.dump(
    {
        "command": os.environ["COMMAND"],
        "date": datetime.date.today().isoformat(),
        "commit": subprocess.getoutput("git rev-parse --short HEAD"),
        "machine": f"{os.cpu_count()} x {model[1] if model else platform.machine()}, "
        f"Linux {platform.release().split('-')[0]}",
        "quiet": os.environ["QUIET"] == "1",
        "report": json.loads(pathlib.Path(sys.argv[1]).read_text().splitlines()[-1]),
    },
    sys.stdout,
    indent=1,
)
print()
PY
    mv "$scratch/json" "$out/$name.json"
}

# Runs a command with an empty target folder, and prints the seconds that it takes.
seconds_of() {
    local TIMEFORMAT=%0R
    { time CARGO_TARGET_DIR="$scratch/target" "$@" >"$scratch/log" 2>&1; } 2>&1 ||
        { tail -n 30 "$scratch/log" >&2; return 1; }
    rm -rf "$scratch/target"
}

# Prints how long the two commands of README.md take.
time_commands() {
    local first second
    first=$(seconds_of cargo run --release --locked)
    second=$(seconds_of cargo test --locked)
    echo "{\"first_seconds\": $first, \"second_seconds\": $second}"
}

# Quiet: less than half of a processor in use over the last minute, before we begin.
QUIET=$(awk '{ print ($1 < 0.5) }' /proc/loadavg)
export QUIET
[ "$QUIET" = 1 ] || echo "this machine is not quiet: the results will say so" >&2

[ $# -gt 0 ] || set -- commands analyze store overhead
for name; do
    case $name in
        commands) record commands time_commands ;;
        analyze) pages; record analyze $zlab analyze "$scratch/pages" --json ;;
        store) pages; record store $bench store -- "$scratch/pages" --json ;;
        overhead) pages; record overhead $bench overhead -- "$scratch/pages" --codec lz4 --json ;;
        *) echo "ci/measure.sh: no measurement $name" >&2; exit 2 ;;
    esac
done
