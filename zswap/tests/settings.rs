//! Settings that contradict each other are an error that names them.

use std::sync::Arc;

use crate::common::builder;
use zpool_conformance::ReferenceDriver;
use zpool_testing::backing::MemoryBacking;
use zswap::manager::RegistryError;
use zswap::plugin::zpool_core::page::MmapSource;
use zswap::plugin::{BackingCapabilities, CreateError, Params, PoolConfig, ZPool, ZPoolDriver};
use zswap::{AtLimit, BuildError, EvictionDecision, Store, StoreBuilder};

/// Returns the error of `build`, after checking that it is one line that contains all of `words`.
fn refused(builder: StoreBuilder<u64>, words: &[&str]) -> BuildError {
    let error = builder.build().unwrap_err();
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)) && text.lines().count() == 1, "{text}");
    error
}

#[test]
fn build_eviction_without_limit_is_refused() {
    let evicts = || builder().at_limit(AtLimit::Evict);
    let error = refused(evicts(), &["`at_limit`", "limit_bytes"]);
    assert!(matches!(error, BuildError::NoLimit { setting: "at_limit" }));
    refused(evicts().on_evict(|_, _| ()), &["`at_limit`", "limit_bytes"]);
    let error = refused(builder().accept_percent(50), &["`accept_percent`", "limit_bytes"]);
    assert!(matches!(error, BuildError::NoLimit { setting: "accept_percent" }));
    // Allowed if the limit is set later.
    let later = evicts().limit_bytes(usize::MAX).accept_percent(50).build().unwrap();
    assert_eq!(later.limit_bytes(), None);
    later.set_limit(Some(1 << 20)).unwrap();
}

/// A limit needs a policy, so the builder asks for one.
#[test]
fn build_limit_without_policy_is_refused() {
    let error = refused(builder().limit_bytes(1 << 20), &["limit_bytes(1048576)", "`at_limit("]);
    assert!(matches!(error, BuildError::NoPolicy { limit: 1_048_576 }));
    builder().limit_bytes(usize::MAX).build().unwrap();
}

/// Values longer than a block are split unless a store is told otherwise.
#[test]
fn build_default_splits_long_values() {
    let store = builder().build().unwrap();
    assert_eq!(store.max_value_len(), zswap::DEFAULT_MAX_VALUE_LEN);
    store.store(1, vec![3; 5 * store.block_size() + 7]).unwrap();
    assert_eq!(store.stats().large_values, 1);
}

#[test]
fn build_listener_without_eviction_is_refused() {
    for limit in [None, Some(1 << 20), Some(usize::MAX)] {
        let builder = || limit.map_or(builder(), |bytes| builder().limit_bytes(bytes));
        for builder in [builder(), builder().at_limit(AtLimit::Refuse)] {
            let error = refused(builder.on_evict(|_, _| ()), &["`on_evict`", "AtLimit::Evict"]);
            assert!(matches!(error, BuildError::NoEviction { setting: "on_evict" }));
        }
        let decides = builder().on_evict_with(|_, _| EvictionDecision::Evict);
        let error = refused(decides, &["`on_evict_with`", "AtLimit::Evict"]);
        assert!(matches!(error, BuildError::NoEviction { setting: "on_evict_with" }));
        let error =
            refused(builder().keep_compressible(true), &["`keep_compressible`", "AtLimit::Evict"]);
        assert!(matches!(error, BuildError::NoEviction { setting: "keep_compressible" }));
        builder().at_limit(AtLimit::Refuse).keep_compressible(false).build().unwrap();
    }
    let all = builder().limit_bytes(1 << 20).at_limit(AtLimit::Evict).on_evict(|_, _| ());
    let all = all.on_evict_with(|_, _| EvictionDecision::Evict);
    all.keep_compressible(true).accept_percent(100).build().unwrap();
}

/// Segments of a tier are dropped as a whole, so no listener can keep one of their blocks.
#[test]
fn build_deciding_listener_with_tier_is_refused() {
    let capabilities = BackingCapabilities::new(64 << 10, 4).unwrap();
    let builder = builder()
        .limit_bytes(1 << 20)
        .at_limit(AtLimit::Evict)
        .on_evict_with(|_, _| EvictionDecision::Evict)
        .tier(Arc::new(MemoryBacking::new(capabilities)));
    let error = refused(builder, &["`on_evict_with`", "`tier`"]);
    assert!(matches!(error, BuildError::TierWithListener));
}

/// A limit that an empty store already exceeds would make the store full for ever.
#[test]
fn build_limit_below_empty_store_is_refused() {
    let held = builder().build().unwrap().bytes_held();
    for at_limit in [AtLimit::Refuse, AtLimit::Evict] {
        for limit in [0, 1, held] {
            let builder = builder().limit_bytes(limit).at_limit(at_limit);
            let error = refused(builder, &[&format!("limit_bytes({limit})"), "higher"]);
            assert!(
                matches!(error, BuildError::LimitTooLow { limit: l, .. } if l == limit),
                "{error}"
            );
        }
        builder().limit_bytes(held + (1 << 20)).at_limit(at_limit).build().unwrap();
    }
}

#[test]
fn build_other_contradictions_are_refused() {
    let short = builder().block_size(8192).max_value_len(8191);
    let error = refused(short, &["max_value_len(8191)", "block_size(8192)"]);
    assert!(matches!(error, BuildError::MaxValueLen { bytes: 8191, block_size: 8192 }));
    let error = refused(builder().max_pending(0), &["max_pending(0)", "1 or more"]);
    assert!(matches!(error, BuildError::MaxPending));
    for percent in [0, 101, 255] {
        // A value out of range is an error, with or without a limit.
        let error =
            refused(builder().accept_percent(percent), &[&format!("accept_percent({percent})")]);
        assert!(matches!(error, BuildError::AcceptPercent(p) if p == percent));
    }
    let error = refused(builder().min_gain_percent(100), &["min_gain_percent(100)", "99"]);
    assert!(matches!(error, BuildError::MinGainPercent(100)));
    let both = builder().exclude_from_dumps(true).page_source(Arc::new(MmapSource::new()));
    let error = refused(both, &["exclude_from_dumps", "page_source"]);
    assert!(matches!(error, BuildError::DumpsOfOwnSource));
    builder().exclude_from_dumps(false).page_source(Arc::new(MmapSource::new())).build().unwrap();
}

/// A driver that panics when it is asked for its name.
#[derive(Debug)]
struct Nameless;

impl ZPoolDriver for Nameless {
    fn name(&self) -> &str {
        panic!("a driver without a name")
    }
    fn canonical(&self, params: &Params) -> Result<Params, CreateError> {
        Ok(params.clone())
    }
    fn create(&self, _: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        Err(CreateError::OutOfMemory)
    }
}

#[test]
fn build_panicking_plug_in_is_an_error() {
    let builder = Store::<u64>::builder().allocator(Arc::new(Nameless));
    let error = refused(builder, &["panicked", "a driver without a name"]);
    assert!(matches!(error, BuildError::Registry(RegistryError::Panicked { .. })));
}

/// Returns a builder that has the built-in back ends and the allocator `reference` only.
fn built_in(spec: &str) -> StoreBuilder<u64> {
    Store::builder().allocator(Arc::new(ReferenceDriver)).spec(spec.parse().unwrap())
}

/// The error of a back end of this workspace that is not compiled in names the feature, or the
/// crate that has it.
#[test]
fn build_error_names_the_missing_feature() {
    let features = [
        ("zsmalloc", cfg!(feature = "zsmalloc")),
        ("zbud", cfg!(feature = "zbud")),
        ("lz4", cfg!(feature = "lz4")),
        ("pagelz", cfg!(feature = "pagelz")),
        ("zstd", cfg!(feature = "zstd")),
    ];
    for (name, _) in features.into_iter().filter(|(_, compiled_in)| !compiled_in) {
        let spec = match name {
            "zsmalloc" | "zbud" => format!("{name}+rle"),
            _ => format!("reference+{name}"),
        };
        let words = [format!("`{name}`"), format!("the feature `{name}` of zswap")];
        refused(built_in(&spec), &[&words[0], &words[1]]);
    }
    refused(built_in("reference+lzo"), &["zpool-lzo", "LzoDriver"]);
    refused(built_in("reference+lz77"), &["unknown compressor `lz77`", "register its driver"]);
}
