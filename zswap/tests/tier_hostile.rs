//! The body of the fuzz target `tier` on random inputs: a backing store that returns hostile
//! records never makes a load return other bytes.

#[path = "../../fuzz/src/tier.rs"]
#[allow(unreachable_pub, reason = "a part of another crate, run here as it is")]
mod tier;

use zpool_testing::random::TestRng;

#[test]
fn hostile_records_never_pass_for_blocks() {
    for seed in 0..30 {
        let mut rng = TestRng::new(seed);
        // Some inputs end early: then the backing store is honest.
        let len = rng.below(8_000);
        let input: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
        let reads = tier::on_tier(&input);
        assert!(reads > 20, "{reads} reads of seed {seed}");
    }
}
