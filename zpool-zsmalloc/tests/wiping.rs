//! Pools that overwrite what is freed.
#![cfg(all(target_os = "linux", not(zpool_loom)))]

use zpool_conformance::pool::assert_wipes_on_free;
use zpool_core::{PoolConfig, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

#[test]
fn nothing_is_left_of_what_is_freed_or_moved() {
    for max in [4096, 20_000] {
        assert_wipes_on_free(move |source| {
            ZsmallocDriver.create(&PoolConfig::new(source, max).with_wipe_on_free(true))
        });
    }
}

/// What the test above goes by.
#[test]
#[should_panic(expected = "F6: of")]
fn without_being_asked_to_it_leaves_the_bytes() {
    assert_wipes_on_free(|source| ZsmallocDriver.create(&PoolConfig::new(source, 4096)));
}
