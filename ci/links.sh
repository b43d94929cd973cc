#!/usr/bin/env bash
# Every path of this repository, and every test, that a document names in backticks exists. Records
# under docs/decisions are free: they say how things were called when they were written. So are
# paths that .gitignore names.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 - <<'PY'
import itertools, pathlib, re, subprocess, sys

tracked = subprocess.check_output(["git", "ls-files"], text=True).split()
folders = {str(parent) for name in tracked for parent in pathlib.PurePath(name).parents}
roots = {name.split("/")[0] for name in tracked if "/" in name}


def expand(path):
    """Returns the paths of `a/{b,c}.rs`."""
    parts = [part.split(",") for part in re.split(r"[{}]", path)]
    return ["".join(choice).replace(" ", "") for choice in itertools.product(*parts)]


def functions(path):
    text = pathlib.Path(path).read_text(encoding="utf-8")
    return set(re.findall(r"\bfn (\w+)", text))


def exists(name):
    ignored = ["git", "check-ignore", "--quiet", name]
    return name in known or subprocess.run(ignored).returncode == 0


def check(place, cell):
    """Checks what one cell of a table, or one line, quotes. Tests follow their file."""
    global seen
    file = None
    for quoted in re.findall(r"`([^`\n]+)`", cell):
        path, _, test = quoted.partition("::")
        path = path.split(" ")[0] if "{" not in path else path
        if re.fullmatch(r"[\w./{},\- ]+", path) and "/" in path and path.split("/")[0] in roots:
            names = expand(path.rstrip("/"))
            seen += len(names)
            wrong.extend(f"{place}: no {name}" for name in names if not exists(name))
            file = names[0] if test and names[0] in known else None
        elif file and re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+){2,}", quoted):
            test = quoted
        if test and file:
            seen += 1
            if test.split("::")[-1] not in functions(file):
                wrong.append(f"{place}: no {test} in {file}")


wrong, seen = [], 0
known = folders | set(tracked)
for document in (name for name in tracked if name.endswith(".md")):
    if not document.startswith("docs/decisions/"):
        lines = pathlib.Path(document).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            for cell in line.split("|"):
                check(f"{document}:{number}", cell)
print("\n".join(wrong) or f"{seen} paths and tests exist")
sys.exit(bool(wrong))
PY
