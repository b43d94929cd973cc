//! The allocators and compressors that are compiled in, in one list for all commands.

use std::num::NonZeroUsize;
use std::sync::Arc;

use zpool_core::compress::CompressorDriver;
use zpool_core::spec::{Component, PoolSpec};
use zpool_core::{PoolConfig, ZPool, ZPoolDriver};
use zpool_lz4::Lz4Driver;
use zpool_lzo::LzoDriver;
use zpool_pagelz::PagelzDriver;
use zpool_zbud::ZbudDriver;
use zpool_zsmalloc::ZsmallocDriver;
use zpool_zstd::ZstdDriver;
use zswap::{Store, StoreBuilder};

use crate::error::Failure;

/// Returns the allocators, simplest first.
pub(crate) fn allocators() -> Vec<Arc<dyn ZPoolDriver>> {
    vec![Arc::new(ZbudDriver), Arc::new(ZsmallocDriver)]
}

/// Returns the compressors, fastest first.
pub(crate) fn compressors() -> Vec<Arc<dyn CompressorDriver>> {
    vec![Arc::new(Lz4Driver), Arc::new(LzoDriver), Arc::new(PagelzDriver), Arc::new(ZstdDriver)]
}

/// Combines every allocator of `allocators` with every compressor of `compressors`. An empty list
/// stands for all.
pub(crate) fn pairs(allocators: &[Component], compressors: &[Component]) -> Vec<PoolSpec> {
    let all = |given: &[Component], names: Vec<String>| match given {
        [] => names.into_iter().map(Component::named).collect(),
        given => given.to_vec(),
    };
    let allocators =
        all(allocators, self::allocators().iter().map(|a| a.name().to_owned()).collect());
    let compressors =
        all(compressors, self::compressors().iter().map(|c| c.name().to_owned()).collect());
    let mut pairs: Vec<PoolSpec> = Vec::new();
    for allocator in &allocators {
        for compressor in &compressors {
            let pair = PoolSpec::new(allocator.clone(), compressor.clone());
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
    }
    pairs
}

/// Creates a pool of the allocator that `spec` names, with the parameters of `spec` in place of
/// those of `config`.
pub(crate) fn pool(spec: &Component, config: &PoolConfig) -> Result<Box<dyn ZPool>, Failure> {
    let drivers = allocators();
    let driver = drivers.iter().find(|driver| driver.name() == spec.name).ok_or_else(|| {
        let known: Vec<&str> = drivers.iter().map(|driver| driver.name()).collect();
        Failure::new(format!("unknown allocator `{}` (known: {})", spec.name, known.join(", ")))
    })?;
    Ok(driver.create(&config.clone().with_params(spec.params.clone()))?)
}

/// Returns the builder of a store that has these drivers and no others, whatever its features are.
pub(crate) fn store(spec: &PoolSpec, block_size: NonZeroUsize) -> StoreBuilder<u64> {
    let builder = Store::<u64>::builder().block_size(block_size.get()).spec(spec.clone());
    let builder = allocators().into_iter().fold(builder, StoreBuilder::allocator);
    compressors().into_iter().fold(builder, StoreBuilder::compressor)
}

/// Returns the canonical form of `spec` if a pool of it can be created. The pool is not kept.
pub(crate) fn check(spec: &PoolSpec, block_size: NonZeroUsize) -> Result<PoolSpec, Failure> {
    let store = store(spec, block_size).build()?;
    let pool = store.manager().current();
    Ok(pool.map_or_else(|| spec.clone(), |pool| pool.spec().clone()))
}
