//! The store for keys of `u64`, compiled once for all test programs.
//!
//! Where little is optimized, a program uses the instances of generic functions that a crate below
//! it has (`-Zshare-generics`, which is on up to `opt-level=1`). Without this module, each of a
//! dozen test programs compiles the whole store again. Built for tests only, by the feature
//! `testing`. Nothing calls these functions.

use crate::drain::{DrainBudget, DrainPolicy};
use crate::{AtLimit, BuildError, Error, PoolSpec, Store, StoreBuilder};

/// Builds a store with everything that is set by a function.
///
/// # Errors
///
/// Those of `build`.
pub fn build(builder: StoreBuilder<u64>, spec: PoolSpec) -> Result<Store<u64>, BuildError> {
    let builder = builder.limit_bytes(1).at_limit(AtLimit::Evict);
    builder.cold(spec).drain(DrainPolicy::Never).build()
}

/// Makes calls that have a key.
///
/// # Errors
///
/// Those of the calls.
pub fn call_with_key(store: &Store<u64>, buffer: &mut [u8]) -> Result<(), Error> {
    store.store(0, &buffer[..])?;
    store.store(0, Vec::new())?;
    store.load(&0, buffer)?;
    store.load_range(&0, 0, buffer)?;
    store.load_vec(&0)?;
    store.peek(&0, buffer)?;
    store.peek_vec(&0)?;
    store.take(&0, buffer)?;
    store.take_vec(&0)?;
    let _ = store.contains(&0) || store.invalidate(&0);
    Ok(())
}

/// Makes calls that are about the whole store.
///
/// # Errors
///
/// Those of the calls.
pub fn call_without_key(store: &Store<u64>, spec: &PoolSpec) -> Result<(), Error> {
    let _ = store.switch(spec).is_ok() && store.switch_and_drain(spec).is_ok();
    store.drain(DrainBudget::UNLIMITED);
    store.turn_heat_clock();
    store.set_limit(None)?;
    store.retain(|_, _| true);
    store.sample(store.keys().count())?;
    store.write_back();
    store.clear();
    store.trim();
    store.stats();
    Ok(())
}
