"""The mutants of ci/mutants.sh: a sample of single changes, each tried in one copy of the tree.

    tree ──► copy in target/mutants ──► baseline: time all test programs ──► order: fast first
    sites of all crates ──► seeded shuffle ──► for each mutant: build, run, stop if it fails
"""

import collections
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib

# Folder to package, where they differ.
PACKAGES = {"pool-manager": "zpool-manager"}
CRATES = ["zpool-core", "pool-manager", "zpool-zbud", "zpool-zsmalloc", "zswap"]

# Tests of other crates that a change in this one shows in. What zpool-core promises is mostly
# tested through its users. A target is a test program, or the tests of one of its modules.
DEPENDENTS = {
    "zpool-core": {
        "zpool-zbud": ["conformance", "suite release::"],
        "zpool-manager": [
            f"suite {module}::" for module in ("payloads", "queue", "release", "switching")
        ],
        "zswap": ["suite blocks::", "suite limit::"],
    },
    "pool-manager": {"zswap": ["suite blocks::", "pools"]},
}

# Models need another build. The others run for long, measure this machine, or start cargo
# themselves.
NOT_TESTS = {"loom", "loom_queue", "stress", "resident", "examples", "readme", "tracing"}
# What only checks, prints or declares, and tests in a file of their own.
NOT_FILES = {"validate.rs", "lib.rs", "loom_locks.rs", "tests.rs", "instances.rs"}
NOT_LINES = re.compile(
    r"^\s*(//|#|use |pub use |mod |debug_assert|assert|const _|\.field|write!|let _ =|impl"
    r"|pub\(crate\) (struct|enum|type|trait)|fn fmt)"
    r"|debug_assert|assert!|assert_eq!|format!|Ordering::|where |might_block|PhantomData"
    r"|unreachable!|-> |dyn |size_of"
)
# Items that this build does not compile, and tests.
NOT_BUILT = re.compile(
    r"#\[cfg\((all\()?(test\b|zpool_loom|not\(unix|not\(target_os = \"linux\"|not\(target_arch"
    r"|windows|doctest|fuzzing"
    r"|feature = \"(tracing|zbud|zstd)\")"
)

# A pattern, and what it becomes.
CHANGES = [(re.compile(pattern), to) for pattern, to in [
    (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "),
    (r" == ", " != "), (r" != ", " == "), (r" && ", " || "), (r" \|\| ", " && "),
    (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" / ", " * "), (r" % ", " / "),
    (r" << ", " >> "), (r" >> ", " << "), (r" & ", " | "), (r" \| ", " & "),
    (r" \+= ", " -= "), (r" -= ", " += "), (r" \|= ", " &= "), (r" &= ", " |= "),
    (r"\.min\(", ".max("), (r"\.max\(", ".min("), (r"\btrue\b", "false"), (r"\bfalse\b", "true"),
    (r"\.is_empty\(\)", ".is_empty() == false"),
    (r"\bif (?!let\b|!)([^{}]+) \{", r"if !(\1) {"), (r"\bif !", "if "),
    (r"\.first\(\)", ".last()"), (r"\.last\(\)", ".first()"),
    (r"(?<!\.)\b1\b", "2"), (r"(?<!\.)\b0\b", "1"),
    (r"\.is_some\(\)", ".is_none()"), (r"\.is_none\(\)", ".is_some()"),
    (r"div_ceil\(", "div_euclid("),
    (r"trailing_zeros", "leading_zeros"), (r"wrapping_add\(1\)", "wrapping_add(0)"),
    # A statement that is a call, or an assignment, left out.
    (r"^(\s+)((?:self|books|state|pool|slot|shared|list|entry)[\w.\[\]()?&:]*\([^{}]*\);)$", r"\1"),
    (r"^(\s+)([\w.\[\]]+ = [^{}]+;)$", r"\1"),
]]

# Seconds that the test programs of a crate take together at most, as timed without any change.
BUDGET = float(os.environ.get("BUDGET", "60"))
BUILD_SECONDS = 600

Mutant = collections.namedtuple("Mutant", "crate file number was now")
Program = collections.namedtuple("Program", "package target path seconds")


def package(crate):
    return PACKAGES.get(crate, crate)


def sites(root, crate):
    """Every change of a crate, in the order of files and lines."""
    found = []
    for path in sorted((root / crate / "src").rglob("*.rs")):
        if path.name not in NOT_FILES:
            file = str(path.relative_to(root))
            lines = path.read_text().splitlines()
            found += [Mutant(crate, file, *change) for change in changes(lines)]
    return found


def changes(lines):
    # Depth of brackets inside an assertion, or inside an item that is not built.
    asserting, skipping, depth = 0, False, 0
    for number, line in enumerate(lines):
        if NOT_BUILT.search(line):
            skipping, depth = True, 0
            continue
        if skipping:
            depth += sum(line.count(c) for c in "({[") - sum(line.count(c) for c in ")}]")
            skipping = depth > 0 or not line.rstrip().endswith((";", "}", ","))
            continue
        if asserting or re.match(r"\s*(debug_)?assert", line):
            asserting += line.count("(") - line.count(")")
            continue
        if NOT_LINES.search(line):
            continue
        code = line.split(" //")[0]
        for pattern, to in CHANGES:
            for match in pattern.finditer(code):
                if "<" in match.group() and re.search(r"[A-Z]\w*<|fn ", code):
                    continue
                yield number, line, code[:match.start()] + match.expand(to) + code[match.end():]


def equivalents(root):
    """Changes that no test can tell from the code: (file, was, now) to the reason."""
    known = {}
    for number, line in enumerate((root / "ci/mutants.equivalent").read_text().splitlines()):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split(" ;; ")]
        if len(parts) != 4 or not parts[3]:
            place = f"ci/mutants.equivalent:{number + 1}"
            sys.exit(f"{place}: `file ;; was ;; now ;; reason` is needed")
        known[tuple(parts[:3])] = parts[3]
    return known


def key(mutant):
    return mutant.file, mutant.was.strip(), mutant.now.strip() or "(left out)"


def isolate_child():
    """Puts the child into its own session and bounds its memory: a mutant may ask for all of it."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (64 << 30, 64 << 30))


def run(command, cwd, seconds, **environment):
    """Returns the exit code (None after `seconds`) and what was printed."""
    environment = dict(os.environ, RUST_BACKTRACE="0", PROPTEST_CASES="64", **environment)
    child = subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             errors="replace", preexec_fn=isolate_child)
    try:
        out, _ = child.communicate(timeout=seconds)
        return child.returncode, out
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        return None, child.communicate()[0]
    finally:
        # Processes that the test started and left.
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Tree:
    """The copy, its build, and the test programs of each crate, in the order of their runs."""

    def __init__(self, root):
        self.folder = root / "target/mutants/tree"
        self.target = root / "target/mutants/build"
        self.stages = {}
        shutil.rmtree(self.folder, ignore_errors=True)
        # Times of files are kept, so that an earlier build is used again.
        ignored = shutil.ignore_patterns("target", "target-*", ".git")
        shutil.copytree(root, self.folder, ignore=ignored, symlinks=True)

    def build(self, package, targets):
        """Returns paths by target, or None and what cargo printed."""
        command = ["cargo", "test", "--locked", "--no-run", "--message-format=json", "-p", package]
        programs = {target.split()[0] for target in targets}
        command += ["--lib" if name == "lib" else f"--test={name}" for name in sorted(programs)]
        code, out = run(
            command, self.folder, BUILD_SECONDS, CARGO_TARGET_DIR=str(self.target),
            CARGO_INCREMENTAL="1", CARGO_PROFILE_TEST_DEBUG="0", CARGO_PROFILE_DEV_DEBUG="0",
        )
        if code != 0:
            return None, out
        paths = {}
        for line in out.splitlines():
            message = json.loads(line) if line.startswith("{") else {}
            if message.get("executable") and message["profile"]["test"]:
                name = "lib" if "lib" in message["target"]["kind"] else message["target"]["name"]
                paths[name] = message["executable"]
        return {target: paths[target.split()[0]] for target in targets}, out

    def test(self, crate, target, path, seconds):
        folder = self.folder / crate
        command = [path, "--quiet", *target.split()[1:]]
        return run(command, folder, seconds, CARGO_MANIFEST_DIR=str(folder))

    def targets(self, crate):
        """Returns the test programs of a crate; of one with modules, each module by itself."""
        tests = self.folder / crate / "tests"
        manifest = tomllib.loads((self.folder / crate / "Cargo.toml").read_text())
        listed = [test["name"] for test in manifest.get("test", [])]
        found = []
        for name in listed or sorted(path.stem for path in tests.glob("*.rs")):
            modules = re.findall(r"^mod (\w+);", (tests / f"{name}.rs").read_text(), re.M)
            modules = [module for module in modules if (tests / f"{module}.rs").exists()]
            found += [f"{name} {module}::" for module in modules] or [name]
        return [target for target in found if target.split()[-1].strip(":") not in NOT_TESTS]

    def measure(self, crate):
        """Builds and runs every program once without any change, and orders them."""
        stages = [(package(crate), ["lib"]), (package(crate), self.targets(crate))]
        stages += DEPENDENTS.get(crate, {}).items()
        self.stages[crate], left = [], BUDGET
        for name, targets in stages:
            paths, out = self.build(name, targets) if targets else ({}, "")
            if paths is None:
                sys.exit(f"{name} does not compile without any change:\n{out}")
            programs = []
            for target, path in paths.items():
                begun = time.monotonic()
                code, out = self.test(folder_of(name), target, path, 600)
                if code != 0:
                    # A busy machine may be why.
                    code, out = self.test(folder_of(name), target, path, 600)
                if code != 0:
                    sys.exit(f"{name} {target} fails without any change:\n{out}")
                programs.append(Program(name, target, path, time.monotonic() - begun))
            programs.sort(key=lambda program: program.seconds)
            kept = []
            for program in programs:
                left -= program.seconds
                if left < 0:
                    seconds = f"{program.seconds:.0f} s, BUDGET={BUDGET:.0f}"
                    print(f"  {crate}: {name} {program.target} is left out ({seconds})")
                else:
                    kept.append(program)
            if kept:
                self.stages[crate].append((name, kept))
        count = sum(len(programs) for _, programs in self.stages[crate])
        print(f"  {crate}: {count} test programs, {BUDGET - max(left, 0):.0f} s", flush=True)

    def attempt(self, mutant):
        """Returns the outcome, and the test that showed the change."""
        file = self.folder / mutant.file
        text = file.read_text()
        lines = text.splitlines(keepends=True)
        assert lines[mutant.number].rstrip("\n") == mutant.was
        lines[mutant.number] = mutant.now + "\n"
        file.write_text("".join(lines))
        try:
            for name, programs in self.stages[mutant.crate]:
                paths, _ = self.build(name, [program.target for program in programs])
                if paths is None:
                    return "does not compile", ""
                for program in programs:
                    seconds = 20 + 5 * program.seconds
                    path = paths[program.target]
                    code, out = self.test(folder_of(name), program.target, path, seconds)
                    if code is None:
                        return "killed", f"{program.target} hangs"
                    if code != 0:
                        failed = re.search(r"^    (\S+)$", out[out.rfind("failures:"):], re.M)
                        by = failed.group(1) if failed else "aborts"
                        return "killed", f"{program.target} {by}"
            return "survived", ""
        finally:
            file.write_text(text)


def folder_of(name):
    return next((folder for folder, other in PACKAGES.items() if other == name), name)


def main():
    # So that what runs is ended, too: it is in a session of its own.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    wanted, seed, skip = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    crates = [folder_of(crate) for crate in sys.argv[4:]] or CRATES
    root = pathlib.Path.cwd()
    known = equivalents(root)
    sample = [mutant for crate in crates for mutant in sites(root, crate)]
    sampled = set(map(key, sample))
    stale = [each for each in known if each[0].split("/")[0] in crates and each not in sampled]
    for file, was, now in stale:
        print(f"ci/mutants.equivalent: no longer there: {file}: {was} -> {now}")
    random.Random(seed).shuffle(sample)
    left_out = [mutant for mutant in sample if key(mutant) in known]
    sample = [mutant for mutant in sample if key(mutant) not in known][skip:]
    print(f"{len(sample)} sites in {', '.join(crates)}, seed {seed}")
    print(f"{len(left_out)} equivalent sites are left out")
    if os.environ.get("LIST"):
        print("\n".join(describe(mutant) for mutant in sample[:wanted]))
        return
    tree = Tree(root)
    results = []
    # Crate by crate, because the dependents of a changed crate are built again. Substitutes for
    # mutants that do not compile come last.
    chosen = sorted(sample[:wanted], key=lambda mutant: crates.index(mutant.crate))
    for mutant in chosen + sample[wanted:]:
        if len(results) == wanted:
            break
        if mutant.crate not in tree.stages:
            tree.measure(mutant.crate)
        begun = time.monotonic()
        outcome, by = tree.attempt(mutant)
        seconds = time.monotonic() - begun
        print(f"{outcome:<17} {seconds:4.0f} s  {describe(mutant)}  {by}", flush=True)
        if outcome != "does not compile":
            results.append((mutant, outcome))
    report(crates, results)


def describe(mutant):
    file, was, now = key(mutant)
    return f"{file}:{mutant.number + 1}: `{was}` -> `{now}`"


def report(crates, results):
    print()
    for mutant, outcome in results:
        if outcome == "survived":
            print(f"survived: {describe(mutant)}")
    for crate in [*crates, None]:
        outcomes = [outcome for mutant, outcome in results if crate in (mutant.crate, None)]
        killed = outcomes.count("killed")
        rate = f" ({100 * killed / len(outcomes):.0f} %)" if outcomes else ""
        print(f"mutants of {crate or 'all'}: killed {killed} of {len(outcomes)}{rate}")
    # The last turn was that of all.
    if not outcomes or killed < 0.9 * len(outcomes):
        sys.exit("fewer than 90 % were killed")


main()
