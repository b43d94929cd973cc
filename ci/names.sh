#!/usr/bin/env bash
# One name, one meaning: a type name that two source files of the library crates define needs a row,
# with the reason, in the table "Names with two meanings" of ARCHITECTURE.md. Tests, benches and
# programs for tests are free, because no reader meets their names in a crate that depends on them.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 - <<'PY'
import collections, re, subprocess, sys

FREE = re.compile(r"(^|/)(tests|benches|examples|fuzz|testing)/")
TYPE = re.compile(r"^ *(?:pub(?:\([^)]*\))? )?(?:struct|enum|union|trait) (\w+)", re.M)
TESTS = re.compile(r"^ *#\[cfg\((?:test|all\(test.*)\)\]\n *mod \w+ \{", re.M)

files = collections.defaultdict(set)
for name in subprocess.check_output(["git", "ls-files", "*.rs"], text=True).split():
    if FREE.search(name):
        continue
    text = TESTS.split(open(name, encoding="utf-8").read())[0]
    for match in TYPE.finditer(text):
        files[match.group(1)].add(name)
twice = {name: places for name, places in files.items() if len(places) > 1}

text = open("ARCHITECTURE.md", encoding="utf-8").read()
section = re.search(r"^#+ Names with two meanings\n(.*?)(?=^#|\Z)", text, re.M | re.S)
rows = re.findall(r"^\| (`[^|]*`) \|", section.group(1), re.M) if section else []
explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

wrong = [f"{name}: {', '.join(sorted(twice[name]))}" for name in sorted(set(twice) - explained)]
wrong += [f"{name}: explained, but has one meaning" for name in sorted(explained - set(twice))]
print("\n".join(wrong) or f"{len(files)} type names, {len(twice)} with two meanings, explained")
sys.exit(bool(wrong))
PY
