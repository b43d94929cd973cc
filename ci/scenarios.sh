#!/usr/bin/env bash
# Checks docs/scenarios.md: it has a row for each of B1 to B50, and every number, file and test that
# a row names exists.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 - <<'PY'
import pathlib, re, sys

table = pathlib.Path("docs/scenarios.md").read_text()
rows = dict(re.findall(r"^\| (B\d+) \| .*? \| (.*) \|$", table, re.M))
wrong = [f"B{n} has no row" for n in range(1, 51) if f"B{n}" not in rows]
built = {"target", ".git"}
files = [path for path in pathlib.Path(".").rglob("*.rs") if not built & set(path.parts)]
text = {path: path.read_text() for path in files}
open_rows = 0
for name, row in rows.items():
    open_rows += row.startswith("open")
    for path in re.findall(r"`([\w./-]+\.rs|[\w-]+(?:/[\w-]+)+)`", row):
        ends = "/" + path
        if not pathlib.Path(path).exists() and not any(str(f).endswith(ends) for f in files):
            wrong.append(f"{name} names {path}, which is not there")
    # "b16" in a row stands for functions whose names begin so, or have it in a list: `b37_k4_`.
    for said in set(re.findall(r"\bb\d+\b", row)):
        found = sum(len(re.findall(rf"\b(?:fn )?\w*{said}_\w+", body)) for body in text.values())
        if not found:
            wrong.append(f"{name} speaks of {said}, and no test is called so")
    for test in re.findall(r"`([a-z]\w*_\w+_\w+)`", row):
        if not any(test in body for body in text.values()):
            wrong.append(f"{name} names the test {test}, which is not there")
    tested = re.search(r"`|\bb\d+\b|conformance", row)
    if not (row.startswith("open") or "cannot happen" in row or tested):
        wrong.append(f"{name} says neither what tests it nor why it cannot happen")
print(f"{len(rows)} scenarios, {open_rows} open")
sys.exit("\n".join(wrong) if wrong else 0)
PY
