#!/usr/bin/env bash
# Checks that no test is left out: a manifest that says `test = false` for a program, or names its
# test programs itself, must not hide a file with tests.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 - <<'PY'
import pathlib, re, sys, tomllib

TEST = re.compile(r"#\[(?:tokio::)?test\]|proptest!|_suite!")


def sources(package, program):
    """Returns the files of a program: its own file or folder."""
    path = program.get("path")
    if path:
        return [package / path]
    folder = package / "src/bin" / program["name"]
    return list(folder.rglob("*.rs")) or [folder.with_suffix(".rs")]


wrong, seen = [], 0
members = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["workspace"]["members"]
for package in map(pathlib.Path, members):
    manifest = tomllib.loads((package / "Cargo.toml").read_text())
    for program in manifest.get("bin", []):
        for path in sources(package, program) if program.get("test") is False else []:
            seen += 1
            if not path.exists():
                wrong.append(f"{package}/Cargo.toml: no source of `{program['name']}`")
            elif TEST.search(path.read_text()):
                wrong.append(f"{path}: has tests, and its manifest says `test = false`")
    if manifest["package"].get("autotests", True):
        continue
    programs = manifest.get("test", [])
    listed = {(package / t.get("path", f"tests/{t['name']}.rs")).resolve() for t in programs}
    for root in list(listed):
        modules = re.findall(r"^mod (\w+);", root.read_text(), re.M)
        listed |= {root.with_name(f"{name}.rs").resolve() for name in modules}
    for path in sorted((package / "tests").glob("*.rs")):
        seen += 1
        if path.resolve() not in listed:
            wrong.append(f"{path}: is in no test program of {package}/Cargo.toml")
print("\n".join(wrong) or f"{seen} files looked at: no test is left out")
sys.exit(bool(wrong))
PY
