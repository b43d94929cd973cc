//! The examples are tests as well: thread pools that are not ours, behind the one-method trait.

#![allow(clippy::duplicate_mod, reason = "each example brings its compressor along")]

#[path = "../examples/no_block.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod no_block;
#[path = "../examples/rayon.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod rayon;
#[path = "../examples/tokio.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod tokio;

#[test]
fn pools_are_destroyed_on_rayons_threads() {
    rayon::main().unwrap();
}

#[test]
fn pools_are_destroyed_on_tokios_blocking_threads() {
    tokio::main().unwrap();
}

#[test]
fn a_thread_with_a_no_block_rule_drops_the_last_reference() {
    no_block::main().unwrap();
}
