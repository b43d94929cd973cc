"""The mutants of ci/mutants.sh where cargo-mutants is not installed: a sample of single changes, each tried in a copy of the tree."""

import concurrent.futures
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

# What stands before each command: a wrapper that waits for its turn, say.
WRAPPER = os.environ.get("WRAPPER", "").split()

# What a mutant changes: a pattern, what it becomes, and how often such sites are wanted compared with others.
CHANGES = [
    (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "),
    (r" == ", " != "), (r" != ", " == "), (r" && ", " || "), (r" \|\| ", " && "),
    (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" / ", " * "), (r" % ", " / "),
    (r" << ", " >> "), (r" >> ", " << "), (r" & ", " | "), (r" \| ", " & "),
    (r" \+= ", " -= "), (r" -= ", " += "), (r" \|= ", " &= "), (r" &= ", " |= "),
    (r"\.min\(", ".max("), (r"\.max\(", ".min("), (r"\btrue\b", "false"), (r"\bfalse\b", "true"),
    (r"\.is_empty\(\)", ".is_empty() == false"), (r"\bif (?!let\b|!)([^{}]+) \{", r"if !(\1) {"), (r"\bif !", "if "),
    (r"\.first\(\)", ".last()"), (r"\.last\(\)", ".first()"), (r"(?<!\.)\b1\b", "2"), (r"(?<!\.)\b0\b", "1"),
    (r"\.is_some\(\)", ".is_none()"), (r"\.is_none\(\)", ".is_some()"), (r"div_ceil\(", "div_euclid("),
    (r"trailing_zeros", "leading_zeros"), (r"wrapping_add\(1\)", "wrapping_add(0)"),
    # A statement that is a call, or an assignment, left out.
    (r"^(\s+)((?:self|books|state|pool|slot|shared|list|entry)[\w.\[\]()?&:]*\([^{}]*\);)$", r"\1"),
    (r"^(\s+)([\w.\[\]]+ = [^{}]+;)$", r"\1"),
]

# Not logic of the pool: what only checks, prints, asserts or says how strongly something is ordered.
NOT_FILES = {"check.rs", "validate.rs", "lib.rs"}
NOT_LINES = re.compile(r"^\s*(//|#|use |pub use |mod |debug_assert|assert|const _|\.field|write!|let _ =|impl|pub\(crate\) (struct|enum|type|trait)|fn fmt)|"
                       r"debug_assert|assert!|assert_eq!|format!|Ordering::|where |might_block|PhantomData|unreachable!|-> |dyn |size_of")


def sites(root, crate):
    found = []
    for path in sorted((root / crate / "src").rglob("*.rs")):
        if path.name in NOT_FILES:
            continue
        inside = 0
        for number, line in enumerate(path.read_text().splitlines()):
            if line.startswith("#[cfg(") and "test" in line:
                break
            # Inside an assertion of several lines.
            if inside or re.match(r"\s*(debug_)?assert", line):
                inside += line.count("(") - line.count(")")
                continue
            if NOT_LINES.search(line):
                continue
            code = line.split(" //")[0]
            for pattern, to in CHANGES:
                for match in re.finditer(pattern, code):
                    changed = code[:match.start()] + match.expand(to) + code[match.end():]
                    if "<" in match.group() and re.search(r"[A-Z]\w*<|fn ", code):
                        continue
                    found.append((str(path.relative_to(root)), number, line, changed))
    return found


def cargo(copy, *arguments, timeout):
    """Gives the exit code (124 after the timeout), what was printed, and the first test that failed, at which the run is ended."""
    environment = dict(os.environ, CARGO_TARGET_DIR=str(copy / "target"), RUST_BACKTRACE="0", PROPTEST_CASES="64")
    command = [*WRAPPER, "cargo", "test", *arguments]
    run = subprocess.Popen(command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           errors="replace", preexec_fn=limit)
    timer = threading.Timer(timeout, os.killpg, (run.pid, signal.SIGTERM))
    timer.start()
    lines, failed = [], None
    for line in run.stdout:
        lines.append(line)
        if failed := re.match(r"test (\S+) \.\.\. FAILED", line):
            # With its test program: they are a process group of their own.
            os.killpg(run.pid, signal.SIGKILL)
            break
    code = run.wait()
    timer.cancel()
    return (124 if code == -signal.SIGTERM else code), "".join(lines), failed and failed.group(1)


def limit():
    """A mutant may ask for all the memory there is."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))


def suites(copy, crate):
    """The tests of the crate. The models of interleavings are no part: they need another build."""
    tests = sorted(path.stem for path in (copy / crate / "tests").glob("*.rs"))
    return ["--lib", *(f"--test={test}" for test in tests if test not in ("loom", "stress", "resident"))]


def attempt(copy, crate, mutant):
    file, number, line, changed = mutant
    path = copy / file
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    assert lines[number].rstrip("\n") == line
    lines[number] = changed + "\n"
    path.write_text("".join(lines))
    try:
        code, output, failed = cargo(copy, "-p", crate, *suites(copy, crate), timeout=240)
        if "could not compile" in output:
            return "does not compile", ""
        return ("survived", "") if code == 0 else ("killed", "hangs" if code == 124 else failed or "aborts")
    finally:
        path.write_text(text)


def copy_of(root, into):
    ignore = shutil.ignore_patterns("target", ".git")
    shutil.copytree(root, into, ignore=ignore, symlinks=True)
    return into


def main():
    wanted, seed, jobs, crates = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    root = pathlib.Path.cwd()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [copy_of(root, pathlib.Path(folder) / str(job)) for job in range(jobs)]
        results = []
        for crate in crates:
            code, output, _ = cargo(copies[0], "-p", crate, *suites(copies[0], crate), timeout=1200)
            if code != 0:
                sys.exit(f"{crate} fails without any change:\n{output}")
            all_sites = sites(copies[0], crate)
            random.Random(f"{seed} {crate}").shuffle(all_sites)
            print(f"{crate}: {len(all_sites)} sites", flush=True)
            queue = iter(all_sites[int(os.environ.get("SKIP", "0")):])

            def work(copy):
                done = []
                for mutant in queue_until(queue, results, crate, wanted):
                    outcome, by = attempt(copy, crate, mutant)
                    file, number, line, changed = mutant
                    print(f"{outcome:<17} {file}:{number + 1}: {changed.strip() or 'left out: ' + line.strip()}  {by}", flush=True)
                    results.append((crate, outcome, mutant))
                return done

            with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
                list(pool.map(work, copies))
        report(crates, results)


def queue_until(queue, results, crate, wanted):
    """Sites, until so many mutants of the crate compiled."""
    while sum(1 for c, outcome, _ in results if c == crate and outcome != "does not compile") < wanted:
        mutant = next(queue, None)
        if mutant is None:
            return
        yield mutant


def report(crates, results):
    print()
    for _, _, (file, number, line, changed) in (r for r in results if r[1] == "survived"):
        print(f"survived: {file}:{number + 1}\n    was {line.strip()}\n    now {changed.strip() or '(left out)'}")
    worst = 1.0
    for crate in crates:
        killed = sum(1 for c, outcome, _ in results if c == crate and outcome == "killed")
        compiled = sum(1 for c, outcome, _ in results if c == crate and outcome != "does not compile")
        worst = min(worst, killed / max(compiled, 1))
        print(f"mutants of {crate}: killed {killed} of {compiled} ({100 * killed / max(compiled, 1):.0f} %)")
    sys.exit(0 if worst >= 0.9 else "fewer than 90 % were killed")


main()
