//! Pools that overwrite what is freed.
#![cfg(all(target_os = "linux", not(zpool_loom)))]

use zpool_conformance::pool::assert_wipes_on_free;
use zpool_core::{PoolConfig, ZPoolDriver};
use zpool_zbud::ZbudDriver;

/// Nothing is left of an object that was freed.
#[test]
fn wiping_pool_leaves_no_bytes() {
    for max in [4096, 20_000] {
        assert_wipes_on_free(move |source| {
            ZbudDriver.create(&PoolConfig::new(source, max).with_wipe_on_free(true))
        });
    }
}

/// A pool that does not wipe leaves the bytes: the test above can fail.
#[test]
#[should_panic(expected = "F6: something is left")]
fn plain_pool_leaves_bytes() {
    assert_wipes_on_free(|source| ZbudDriver.create(&PoolConfig::new(source, 4096)));
}
