//! Random lists of actions, or one from a file.
//!
//! `ZPOOL_ACTIONS=FILE cargo test random_actions` runs the list of a file on every pool with this
//! suite, instead of random ones.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use zpool_core::page::PageSource;

use crate::action::{self, Action, from_text, pool_action};
use crate::iterations::scaled;
use crate::pool::harness::{PoolHarness, fresh_source, source_of_16_kib};
use crate::pool::{PoolMaker, PoolModelRunner};

/// The variable that names a file with a list of actions to run instead of random ones.
pub const LIST: &str = "ZPOOL_ACTIONS";

/// All bullets that a single thread can check (N1-N3, R1-R2, F1-F3, A1-A2, S1, V1, M1-M2, E1-E3,
/// T1). After each action of a random list, the pool agrees with
/// [`ReferencePool`](crate::ReferencePool), and its accounting is right. A failure prints the
/// shortest failing list.
pub fn random_actions_agree_with_the_reference(maker: &PoolMaker) {
    random_actions(maker, fresh_source);
}

/// Like [`random_actions_agree_with_the_reference`] (N1-N3, R1-R2, F1-F3, A1-A2, S1, V1, M1-M2,
/// E1-E3, T1), over a source with frames of 16 KiB.
pub fn random_actions_with_frames_of_16_kib(maker: &PoolMaker) {
    random_actions(maker, source_of_16_kib);
}

fn random_actions(maker: &PoolMaker, source: fn() -> Arc<dyn PageSource>) {
    let attempt = |actions: &[Action]| {
        let harness = PoolHarness::over(maker, source());
        action::run(actions, PoolModelRunner::new(&*harness.pool, Some(&harness.source)))
    };
    if let Some(file) = env::var_os(LIST) {
        return attempt(&read(&file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    let max_len = PoolHarness::new(maker).max();
    let config = Config {
        cases: scaled(48) as u32,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    // The same lists in every run, so that a red test stays red.
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, b"zpool-conformance: seed of lists");
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(&vec(pool_action(max_len), 1..160), |actions| {
        attempt(&actions).map_err(|error| TestCaseError::fail(error.to_string()))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, actions)) => {
            let (frame, list) = (source().frame_size(), action::to_text(&actions));
            // A comment for the reader of the list, because other frame sizes may not show the
            // failure.
            let how = format!("# zlab replay --frame {frame} --max-len {max_len} FILE");
            panic!("{why}\nThe shortest list of actions that fails:\n{how}\n{list}")
        }
        Err(TestError::Abort(why)) => panic!("no list of actions could be made: {why}"),
    }
}

fn read(file: &OsStr) -> Vec<Action> {
    let text = fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("{LIST}={}: {error}", file.display()));
    from_text(&text).unwrap_or_else(|error| panic!("{LIST}={}: {error}", file.display()))
}
