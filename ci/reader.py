#!/usr/bin/env python3
"""Does what a reader of README.md does who has seen nothing else: makes a crate of it.

    ci/reader.py README FOLDER              a workspace of FOLDER/packages/* and the reader's crate,
                                            which gets its dependencies from there
    ci/reader.py README FOLDER --git URL    a crate that depends on the git address, with URL in the
                                            place of the placeholder

Its dependencies are the lines under `[dependencies]`, and each block of Rust is a program.
"""

import pathlib
import re
import sys


def blocks(text, language):
    """Returns the contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


def crates_used(program):
    """Returns the crates that a program names with `use`, as packages."""
    return {name.replace("_", "-") for name in re.findall(r"^\s*use (z\w+)", program, re.M)}


def main(readme, folder, url=None):
    text = pathlib.Path(readme).read_text()
    dependencies = [lines for lines in blocks(text, "toml") if "[dependencies]" in lines]
    wanted = [lines for lines in dependencies if ("git = " in lines) == bool(url)]
    if len(wanted) != 1:
        sys.exit(f"{readme}: {len(wanted)} blocks of dependencies, where one was expected")
    programs = blocks(text, "rust")
    if not programs:
        sys.exit(f"{readme}: no program")
    for program in programs:
        if len(program.splitlines()) > 15:
            sys.exit(f"{readme}: a program of more than 15 lines:\n{program}")
        for crate in crates_used(program):
            if not re.search(rf"^{crate} = ", wanted[0], re.M):
                sys.exit(f"{readme}: a program uses {crate}, which [dependencies] does not name")
    crate = folder if url else folder / "reader"
    (crate / "src/bin").mkdir(parents=True)
    manifest = '[package]\nname = "reader"\nversion = "0.0.0"\nedition = "2024"\n\n'
    manifest += re.sub(r'git = "[^"]*"', f'git = "{url}"', wanted[0])
    if url:
        manifest += "\n[workspace]\n\n" + profile()
    (crate / "Cargo.toml").write_text(manifest)
    for number, program in enumerate(programs, 1):
        (crate / f"src/bin/program_{number}.rs").write_text(program)
    if not url:
        (folder / "Cargo.toml").write_text(workspace(folder / "packages"))


def workspace(packages):
    """Returns the manifest of a workspace in which packages find each other, not crates.io."""
    lines = ["[workspace]", 'resolver = "3"', 'members = ["packages/*", "reader"]', ""]
    lines.append("[patch.crates-io]")
    for path in sorted(packages.iterdir()):
        name = path.name.rsplit("-", 1)[0]
        lines.append(f'{name} = {{ path = "packages/{path.name}" }}')
    return "\n".join([*lines, "", profile()])


def profile():
    """Returns the dev profile of this repository, so that cargo finds what it has built before."""
    manifest = pathlib.Path(__file__).parent.parent / "Cargo.toml"
    dev = re.compile(r"^\[profile\.dev\]\n.*?(?=^\[profile\.release)", re.S | re.M)
    return dev.search(manifest.read_text())[0]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    git = arguments.pop() if arguments[2:3] == ["--git"] and len(arguments) == 4 else None
    if len(arguments) != 2 + bool(git):
        sys.exit(__doc__)
    main(arguments[0], pathlib.Path(arguments[1]), git)
