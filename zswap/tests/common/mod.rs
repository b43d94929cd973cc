//! Shared by the tests: scripted back ends, blocks that carry their identity, and stores over both.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses a part of this, and none is outside"
)]

pub mod codec;
pub mod hooked;
pub mod pool;

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use zpool_conformance::ReferenceDriver;
pub use zpool_testing::blocks::{Look, block, stamped, unstamp};
pub use zpool_testing::random::TestRng;
use zswap::plugin::Manual;
use zswap::{PoolSpec, Store, StoreBuilder};

use codec::{CodecScript, RleDriver};
use pool::{PoolScript, ScriptedDriver};

/// Specs for tests that try every back end.
pub const SPECS: &[&str] =
    &["reference+rle", "zbud+lz4", "zsmalloc+lz4", "zsmalloc(chain=4)+rle", "zbud+rle"];

pub fn spec(text: &str) -> PoolSpec {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// Returns a builder that knows every back end here.
pub fn builder() -> StoreBuilder<u64> {
    scripted(PoolScript::new(), CodecScript::new())
}

/// Builds a store from `scripted` (an allocator, over the reference one) and `rle` (a compressor)
/// under these scripts.
pub fn scripted(pool: Arc<PoolScript>, codec: Arc<CodecScript>) -> StoreBuilder<u64> {
    Store::builder()
        .spec(spec("scripted+rle"))
        .allocator(Arc::new(ReferenceDriver))
        .allocator(Arc::new(ScriptedDriver { inner: Arc::new(ReferenceDriver), script: pool }))
        .allocator(Arc::new(zpool_zbud::ZbudDriver))
        .allocator(Arc::new(zpool_zsmalloc::ZsmallocDriver))
        .compressor(Arc::new(RleDriver { script: codec }))
        .compressor(Arc::new(zpool_lz4::Lz4Driver))
}

/// Returns a builder of stores with a cold pool that shrinks long runs better than the current one.
/// The clock turns only by calls.
pub fn cold_builder() -> StoreBuilder<u64> {
    builder()
        .spec(spec("zsmalloc+lz4"))
        .cold(spec("zbud+rle"))
        .executor(Arc::new(Manual::new()))
        .max_value_len(1 << 16)
}

/// Builds a store over `text`, with default settings.
pub fn store_of(text: &str) -> Store<u64> {
    builder().spec(spec(text)).build().unwrap()
}

/// A hasher for which all keys are the same: they go to one shard.
#[derive(Debug, Clone, Default)]
pub struct Constant;

impl BuildHasher for Constant {
    type Hasher = Constant;
    fn build_hasher(&self) -> Constant {
        Constant
    }
}

impl Hasher for Constant {
    fn finish(&self) -> u64 {
        0
    }
    fn write(&mut self, _: &[u8]) {}
}

/// Checks the accounts of an idle store: entries by kind, and objects by pool (one for each entry
/// that is in a pool, plus parts of large values).
pub fn check_books<S: std::hash::BuildHasher>(store: &Store<u64, S>) {
    let stats = store.stats();
    let in_pools = stats.stored_compressed + stats.stored_raw;
    assert_eq!(stats.entries, in_pools + stats.same_filled + stats.large_values);
    assert_eq!(stats.entries, store.len());
    assert_eq!(store.keys().count(), stats.entries);
    let objects: usize = stats.objects_by_pool.iter().map(|(_, objects)| objects).sum();
    assert!(objects >= in_pools, "{objects} objects, {in_pools} blocks in pools");
    assert!(
        objects == in_pools || stats.large_values > 0,
        "{objects} objects, {in_pools} blocks in pools"
    );
    let held = |id| store.manager().pools().into_iter().find(|pool| pool.label.id == id);
    for &(id, objects) in &stats.objects_by_pool {
        let references = held(id).expect("a pool with objects is alive").references as usize;
        assert!((1..=objects).contains(&references), "{references} references, {objects} objects");
    }
    let in_current: usize = stats.current.objects;
    let current = store.manager().current().expect("there is always one").id();
    let entries = stats
        .objects_by_pool
        .iter()
        .find(|(id, _)| *id == current)
        .map_or(0, |(_, objects)| *objects);
    assert_eq!(in_current, entries, "objects in the current pool, and entries for them");
    assert_eq!(stats.free_failed, 0);
}
