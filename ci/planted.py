"""The planted bugs of ci/planted.sh: each is a change of the source that a test has to find."""

import os
import pathlib
import shutil
import subprocess
import sys

# Name: the package, the modules of its suite that find it, and the changes: file, code, its
# replacement.
BUGS = {
    "exchange-without-identity": ("zswap", ["drain_races", "drain_threads"], [(
        "zswap/src/index/shard/moving.rs",
        "return self.bucket_of(hash, key).filter(is_seen);",
        "return self.bucket_of(hash, key);",
    )]),
    "unpinned-before-exchange": ("zswap", ["drain_races"], [
        (
            "zswap/src/moving/relocate.rs",
            "        object: &PinnedObject<'_>,\n",
            "        object: &mut PinnedObject<'_>,\n",
        ),
        (
            "zswap/src/moving/relocate.rs",
            "            let raw = self.encode_options().looks_incompressible(block);\n",
            "            self.unpin(object);\n"
            "            let raw = self.encode_options().looks_incompressible(block);\n",
        ),
    ]),
    "heat-lost": ("zswap", ["drain"], [(
        "zswap/src/index/shard/moving.rs",
        "to.set_heat(from.heat());",
        "to.set_heat(0);",
    )]),
    "move-warms": ("zswap", ["drain"], [(
        "zswap/src/index/shard/moving.rs",
        "to.set_heat(from.heat());",
        "to.set_heat((from.heat() + 3).min(3));",
    )]),
    "revival-not-noticed": ("zswap", ["drain_races"], [
        (
            "zswap/src/moving/drain.rs",
            "    is_out_of_memory: bool,\n}",
            "    is_out_of_memory: bool,\n    first_target: Option<PoolRef>,\n}",
        ),
        (
            "zswap/src/moving/drain.rs",
            "is_out_of_memory: false }",
            "is_out_of_memory: false, first_target: None }",
        ),
        (
            "zswap/src/moving/drain.rs",
            "let Some(target) = self.manager().current() else {",
            "let first = drain.first_target.take().or_else(|| self.manager().current());\n"
            "        drain.first_target = first.clone();\n"
            "        let Some(target) = first else {",
        ),
    ]),
    "switch-not-noticed-in-batch": ("zswap", ["drain_races"], [(
        "zswap/src/moving/drain.rs",
        "if self.manager().switches() != switches {",
        "if self.manager().switches() < switches {",
    )]),
    "retain-forgets-moved": ("zswap", ["drain_races"], [(
        "zswap/src/ops/scan.rs",
        "if gone.is_none() && moves() != before => {}",
        "if gone.is_none() && moves() < before => {}",
    )]),
    "cold-drained-to-current": ("zswap", ["cold"], [(
        "zswap/src/moving/drain.rs",
        "self.cold.as_ref().filter(|_| is_cold)",
        "self.cold.as_ref().filter(|_| false && is_cold)",
    )]),
    "kept-not-retried": ("zswap", ["cold"], [(
        "zswap/src/store/cold_state.rs",
        "        self.retries_left > 0\n",
        "        false\n",
    )]),
    "sample-not-cold": ("zswap", ["sample_cold"], [(
        "zswap/src/ops/sample_cold.rs",
        "    is_idle || pool.is_for_cold()\n",
        "    is_idle || pool.age() >= std::time::Duration::ZERO\n",
    )]),
    "evict-without-identity": ("zswap", ["eviction_changes"], [(
        "zswap/src/index/shard/candidate.rs",
        "let Some(at) = self.bucket_of_seen(hash, key, seen) else {",
        "let _ = seen;\n        let Some(at) = self.bucket_of(hash, key) else {",
    )]),
    "unpinned-before-evict": ("zswap", ["eviction_changes"], [
        (
            "zswap/src/pressure/candidates.rs",
            ".show_candidate(&value, |candidate| ",
            ".show_candidate(&mut value, |candidate| ",
        ),
        (
            "zswap/src/pressure/candidates.rs",
            "        value: &CandidateValue<'_>,\n",
            "        value: &mut CandidateValue<'_>,\n",
        ),
        (
            "zswap/src/pressure/candidates.rs",
            "let (block, codec) = self.encoded(pool, object, *meta)?;",
            "let copy = object.to_vec();\n"
            "                self.unpin(object);\n"
            "                let (block, codec) = self.encoded(pool, &copy, *meta)?;",
        ),
    ]),
    "key-shown-twice": ("zswap", ["eviction_changes"], [(
        "zswap/src/limit/decision.rs",
        "if hashes.contains(&hash) || ",
        "if ",
    )]),
    "kept-without-heat": ("zswap", ["eviction_decisions"], [(
        "zswap/src/index/shard/candidate.rs",
        "state_mut().set_heat(EntryState::MAX_HEAT);",
        "state_mut().set_heat(EntryState::MAX_HEAT - 3);",
    )]),
    "limit-ignored": ("zswap", ["drain"], [(
        "zswap/src/moving/room.rs",
        "held.saturating_add(wanted) <= max)",
        "held <= max.saturating_add(wanted << 8))",
    )]),
}

LEFT_OUT = shutil.ignore_patterns("target", ".git")


def copy_of_tree():
    """Copies the tree to target/planted/tree, and keeps what was built there."""
    tree = pathlib.Path("target/planted/tree")
    if tree.exists():
        shutil.rmtree(tree)
    shutil.copytree(".", tree, ignore=LEFT_OUT)
    return tree


def plant(tree, changes):
    """Makes the changes. Returns the files that they are in, as they were."""
    before = {}
    for file, code, replacement in changes:
        path = tree / file
        text = path.read_text()
        if text.count(code) != 1:
            sys.exit(
                f"{file}: `{code.strip()}` occurs {text.count(code)} times, not once:"
                " update BUGS in ci/planted.py"
            )
        before.setdefault(path, text)
        path.write_text(text.replace(code, replacement))
    return before


def tests_pass(tree, package, modules):
    """Runs the tests of these modules. A tree that does not build ends this script."""
    target = pathlib.Path("target/planted/build").resolve()
    environment = dict(os.environ, CARGO_TARGET_DIR=str(target), RUST_BACKTRACE="0")
    base = ["cargo", "test", "--locked", "-p", package, "--test", "suite"]
    built = subprocess.run(base + ["--no-run"], cwd=tree, env=environment, capture_output=True)
    if built.returncode != 0:
        sys.exit(f"it does not build:\n{built.stderr.decode()}")
    try:
        command = base + ["--", *(f"{module}::" for module in modules)]
        ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=300)
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0


def main(names):
    unknown = [name for name in names if name not in BUGS]
    if unknown:
        sys.exit(f"no such bug: {', '.join(unknown)} (known: {', '.join(BUGS)})")
    tree, survived = copy_of_tree(), []
    for name in names or BUGS:
        package, modules, changes = BUGS[name]
        before = plant(tree, changes)
        found = not tests_pass(tree, package, modules)
        for path, text in before.items():
            path.write_text(text)
        print(f"{name}: {'found' if found else 'SURVIVED'} by {', '.join(modules)}", flush=True)
        survived += [] if found else [name]
    sys.exit(f"no test finds {', '.join(survived)}" if survived else 0)


main(sys.argv[1:])
