#!/usr/bin/env bash
# docs/scenarios.md has a row for each of B1 to B50, the files it names exist, and each row that says so has tests of its number there.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 - <<'PY'
import pathlib, re, sys

rows = dict(re.findall(r"^\| (B\d+) \| .*? \| (.*) \|$", pathlib.Path("docs/scenarios.md").read_text(), re.M))
wrong = [f"B{n} has no row" for n in range(1, 51) if f"B{n}" not in rows]
files = [path for path in pathlib.Path(".").rglob("*.rs") if not {"target", ".git"} & set(path.parts)]
text = {path: path.read_text() for path in files}
tests = open_rows = 0
for name, row in rows.items():
    open_rows += row.startswith("open")
    number = name.lower()
    for path in re.findall(r"`([\w./-]+\.rs|[\w-]+(?:/[\w-]+)+)`", row):
        if not pathlib.Path(path).exists() and not any(str(file).endswith("/" + path) for file in files):
            wrong.append(f"{name} names {path}, which is not there")
    # "b16" in a row stands for functions whose names begin so, or have it in a list: `b37_k4_`.
    for said in set(re.findall(r"\bb\d+\b", row)):
        found = sum(len(re.findall(rf"\b(?:fn )?\w*{said}_\w+", body)) for body in text.values())
        tests += found
        if not found:
            wrong.append(f"{name} speaks of {said}, and no test is called so")
    for test in re.findall(r"`([a-z]\w*_\w+_\w+)`", row):
        if not any(test in body for body in text.values()):
            wrong.append(f"{name} names the test {test}, which is not there")
    if not (row.startswith("open") or "cannot happen" in row or re.search(r"`|\bb\d+\b|conformance", row)):
        wrong.append(f"{name} says neither what tests it nor why it cannot happen")
print(f"{len(rows)} scenarios, {open_rows} open")
sys.exit("\n".join(wrong) if wrong else 0)
PY
