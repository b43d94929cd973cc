#!/usr/bin/env bash
# Measures the English of the comments and the names of the tests, and holds them to limits.
#
#   ci/words.sh [PATH...]    files or folders to measure; all of the repository if none is named
#
# Counts, over the comment lines of the .rs files that git knows or would add, per 10 000 words:
# pronouns that name no actor, sentences with "Gives", and idioms that readers have to decode. Then
# the share of comment lines over 100 columns, and the length of test names. Fails if a limit does
# not hold. `ci/prose.sh` finds the places of most of them; WHERE=1 prints the others.
set -euo pipefail
exec python3 - "$@" <<'PY'
import os, pathlib, re, statistics, subprocess, sys

WIDTH = 100
COUNTED = {
    "pronouns": (re.compile(r"\b(?:(?:no|some|any|every)body|who(?:so)?ever)\b", re.I), 3),
    "Gives": (re.compile(r"\bGives\b|\bgives (?:back|the|how|what)\b"), 3),
    "idioms": (
        re.compile(
            r"\b(?:of lat[e]|by turn[s]|at a strok[e]|so man[y]|before lon[g]|besid[e]s?"
            r"|see[s]? to|for nothin[g]|(?:is|are|be|was|were) tol[d]|come[s]? to)\b",
            re.I,
        ),
        5,
    ),
}
TEST = re.compile(r"#\[(?:tokio::)?test\]\s*(?:(?:#\[.*\]|//.*)\s*)*(?:async )?fn (\w+)")

names = ["git", "ls-files", "-co", "--exclude-standard", "--deduplicate", "--", *sys.argv[1:]]
listed = subprocess.run(names, check=True, capture_output=True, text=True).stdout.split("\n")
paths = [path for path in map(pathlib.Path, listed) if path.suffix == ".rs" and path.is_file()]

words = lines = wide = 0
hits = dict.fromkeys(COUNTED, 0)
tests = []
for path in paths:
    text = path.read_text()
    tests += [(len(name), name, path) for name in TEST.findall(text)]
    for at, line in enumerate(text.split("\n"), 1):
        comment = re.match(r"\s*//[/!]?(.*)", line)
        if not comment:
            continue
        lines += 1
        wide += len(line) > WIDTH
        words += len(comment[1].split())
        for name, (pattern, _) in COUNTED.items():
            found = pattern.findall(comment[1])
            hits[name] += len(found)
            if found and "WHERE" in os.environ:
                print(f"{path}:{at}: {', '.join(found)}")

if not words:
    sys.exit("no comments to measure in these paths")
failed = False


def row(name, value, limit, form=".1f"):
    global failed
    failed |= value > limit
    verdict = "TOO MANY" if value > limit else ""
    print(f"{name:<36} {value:>8{form}}   at most {limit:<4} {verdict}".rstrip())


print(f"{words} words in {lines} comment lines, {len(tests)} tests")
for name, (_, limit) in COUNTED.items():
    row(f"{name} per 10 000 words", hits[name] * 1e4 / words, limit)
row(f"comment lines over {WIDTH} columns, %", 100 * wide / lines, 0)
if tests:
    lengths = [length for length, _, _ in tests]
    row("test names, median length", statistics.median_high(lengths), 32, "d")
    row("test names, longest", max(lengths), 60, "d")
    if "WHERE" in os.environ:
        for length, name, path in sorted(tests, reverse=True, key=lambda test: test[0]):
            if length > 50:
                print(f"{path}: {name} ({length})")
sys.exit(failed)
PY
