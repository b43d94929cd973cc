#!/usr/bin/env bash
# Checks the documentation as docs.rs builds it.
#
#   - Every public method of the types below has an example.
#   - The docs of published crates link to items and to addresses, never to a file of the
#     repository, which is not there on docs.rs.
#   - With a nightly toolchain, which docs.rs uses: all published crates build as they do there,
#     with the features of items shown, and without a warning.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 - <<'PY'
import json, pathlib, re, subprocess, sys

# Crate folder, and the types whose public methods are each shown by an example.
SHOWN = {"zswap": ["Store", "StoreBuilder"]}


def methods(text, types):
    """Yields (line, name, docs) of each public method in an inherent impl of the types."""
    head = re.compile(rf"impl(?:<.*?>)?\s+(?:{'|'.join(types)})\b[^;]*?\{{$")
    lines, inside = text.split("\n"), False
    for at, line in enumerate(lines):
        if line.startswith("impl"):
            opening = " ".join(lines[at:at + 8]).split("{")[0] + "{"
            inside = bool(head.match(opening)) and " for " not in opening
        elif line == "}":
            inside = False
        method = re.match(r"    pub (?:const |async )?fn (\w+)", line)
        if inside and method:
            first = at
            while lines[first - 1].strip().startswith(("///", "#[")):
                first -= 1
            yield at + 1, method[1], "\n".join(lines[first:at])


wrong, seen = [], 0
for crate, types in SHOWN.items():
    for path in sorted(pathlib.Path(crate, "src").rglob("*.rs")):
        for line, name, docs in methods(path.read_text(), types):
            seen += 1
            if "```" not in docs:
                wrong.append(f"{path}:{line}: `{name}` has no example")
    if not seen:
        sys.exit(f"{crate}: no public method of {types} found, so this check is wrong")

metadata = subprocess.check_output(
    ["cargo", "metadata", "--no-deps", "--locked", "--format-version", "1"])
for package in json.loads(metadata)["packages"]:
    if package["publish"] == []:
        continue
    for path in sorted(pathlib.Path(package["manifest_path"]).parent.glob("src/**/*.rs")):
        for at, line in enumerate(path.read_text().split("\n"), 1):
            doc = re.match(r"\s*//[/!](.*)", line)
            for target in re.findall(r"\]\(([^)\s]+)\)", doc[1] if doc else ""):
                if re.search(r"^\.{0,2}/|\.(md|rs|sh|svg|json)(#|$)", target):
                    wrong.append(f"{path}:{at}: {target} is not there on docs.rs")
print("\n".join(wrong) or f"{seen} methods have examples; no link leaves docs.rs")
sys.exit(bool(wrong))
PY
if cargo +nightly --version >/dev/null 2>&1; then
    RUSTDOCFLAGS="--cfg docsrs -D warnings" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/docsrs" \
        cargo +nightly doc $(ci/published.sh) --no-deps --all-features --locked --quiet
    echo "docs build as on docs.rs"
else
    echo "no nightly toolchain: the docs were not built as on docs.rs"
fi
