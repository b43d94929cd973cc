#!/usr/bin/env bash
# Arrows between the folders of a crate's src go down only: a file uses its own folder and those
# before it in the order below. Files directly in src stand above all folders. Comments, and so the
# links in them, are free. `ci/folders.sh --self-test` shows that each kind of violation is found.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 - "$@" <<'PY'
import pathlib, re, sys, tempfile

# The order of the folders, lowest first. One line per crate that has folders as layers.
ORDER = """
workload: random report timing pages files memory processes density undo kernel terminal
zswap: docs media value stats backing index limit store pressure ops moving batches
zpool-zsmalloc: collections geometry handle zspage class pool reclaim
"""


def code(text):
    """Returns the text with comments and string literals blanked, line by line as before."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'', re.S
    )
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def heads(text):
    """Yields (position, first name) for each path of a group `{a::b, c::{d, e}}` at its start."""
    depth, expect = 0, False
    for match in re.finditer(r"[{},]|\w+", text):
        token = match.group()
        if token == "{":
            depth, expect = depth + 1, depth == 0
        elif token == "}":
            depth -= 1
            if depth == 0:
                return
        elif token == ",":
            expect = depth == 1
        elif expect:
            yield match.start(), token
            expect = False


def inline_depth(text):
    """Returns the number of inline modules, `mod name { .. }`, that are open at the end."""
    blocks = []
    for match in re.finditer(r"\bmod\s+\w+\s*\{|[{}]", text):
        if match.group() != "}":
            blocks.append(match.group() != "{")
        elif blocks:
            blocks.pop()
    return sum(blocks)


def uses(text, depth):
    """Yields (line, name) for each name that the code takes from the root of the crate.

    `depth` is that of the file's module: so many times `super` lead to the root.
    """
    for match in re.finditer(r"\b(crate|super(?:\s*::\s*super)*)\s*::\s*", text):
        supers = match[1].count("super")
        if supers and supers < depth + inline_depth(text[:match.start()]):
            continue
        rest = text[match.end():]
        found = heads(rest) if rest.startswith("{") else [(0, re.match(r"\w+|\*", rest).group())]
        for at, name in found:
            yield text.count("\n", 0, match.end() + at) + 1, name


def violations(src, order):
    """Yields a line of text for each violation in one crate."""
    rank = {folder: at for at, folder in enumerate(order)}
    folders = {path.name for path in src.iterdir() if path.is_dir()}
    roots = {path.stem for path in src.glob("*.rs")}
    for folder in sorted(folders - rank.keys()):
        # The submodules of a file in src belong to that file.
        if folder not in roots:
            yield f"{src / folder}: not in the order of ci/folders.sh"
    for folder in sorted(rank.keys() - folders):
        yield f"{src / folder}: in the order of ci/folders.sh, but not there"
    for path in sorted(src.rglob("*.rs")):
        parts = path.relative_to(src).parts
        if parts[0] not in rank:
            continue
        depth = len(parts) - (parts[-1] == "mod.rs")
        for line, name in uses(code(path.read_text()), depth):
            if name in ("super", "self") or rank.get(name, len(rank)) <= rank[parts[0]]:
                continue
            if name in rank:
                yield f"{path}:{line}: `{parts[0]}` uses `{name}`, which is above it"
            else:
                yield f"{path}:{line}: `{parts[0]}` uses `{name}` of the root, which is above it"


def order_of(text):
    lines = (line.split(":") for line in text.strip().splitlines())
    return {crate: folders.split() for crate, folders in lines}


def self_test():
    """Plants one violation of each kind, and expects exactly these."""
    good = {
        "lib.rs": "mod low; mod high; pub struct Item; use crate::high::b;",
        "low/mod.rs": "mod a; mod nest;",
        "low/a.rs": '//! See crate::high.\nuse super::nest; /* crate::high */ f("crate::high");',
        "low/nest/mod.rs": "mod c;",
        "low/nest/c.rs": "use super::super::a; use crate::low::{a, nest};",
        "high/mod.rs": "mod b; use crate::{low::a, high::b}; mod tests { use super::*; }",
        "high/b.rs": "use crate::low::a;",
    }
    bad = [
        ("low/a.rs", "use crate::high::b;", "`low` uses `high`"),
        ("low/a.rs", "\nfn f() { crate::high::b() }", "a.rs:2:"),
        ("low/a.rs", "use crate::{low::nest, high::{b, c}};", "`low` uses `high`"),
        ("low/a.rs", "use crate::{\n    low::nest::{c, d},\n    high::b,\n};", "a.rs:3:"),
        ("low/a.rs", "use super::super::high::b;", "`low` uses `high`"),
        ("low/nest/c.rs", "use super::super::super::high::b;", "`low` uses `high`"),
        ("low/mod.rs", "use super::high::b;", "`low` uses `high`"),
        ("high/b.rs", "use crate::Item;", "`Item` of the root"),
        ("high/b.rs", "mod t { use super::super::super::Item; }", "`Item` of the root"),
        ("low/a.rs", "use crate::*;", "`*` of the root"),
        ("stray/mod.rs", "", "stray: not in the order"),
    ]
    for planted in [None, *bad]:
        with tempfile.TemporaryDirectory() as folder:
            src = pathlib.Path(folder)
            files = dict(good, **({planted[0]: planted[1]} if planted else {}))
            for name, text in files.items():
                (src / name).parent.mkdir(parents=True, exist_ok=True)
                (src / name).write_text(text)
            found = list(violations(src, ["low", "high"]))
            expected = [planted[2]] if planted else []
            if len(found) != len(expected) or not all(e in f for e, f in zip(expected, found)):
                sys.exit(f"self-test: planted {planted}, found {found}")
    missing = list(violations(pathlib.Path("ci"), ["gone"]))
    if not any("gone: in the order" in line for line in missing):
        sys.exit(f"self-test: a folder that is not there was not reported: {missing}")
    print(f"self-test: {len(bad) + 1} kinds of violations are found")


if sys.argv[1:] == ["--self-test"]:
    self_test()
    sys.exit()
if sys.argv[1:]:
    sys.exit("usage: ci/folders.sh [--self-test]")
orders = order_of(ORDER)
found = [line for crate, order in orders.items()
         for line in violations(pathlib.Path(crate) / "src", order)]
print("\n".join(found) if found else f"{len(orders)} crates: all arrows between folders go down")
sys.exit(bool(found))
PY
