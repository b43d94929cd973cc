//! The store for keys of `u64`, compiled once for all test programs.
//!
//! Where little is optimized, a program uses the instances of generic functions that a crate below
//! it has (`-Zshare-generics`, which is on up to `opt-level=1`). Without this module, each of a
//! dozen test programs compiles the whole store again: it takes 25 seconds each, and 9 with it.
//! Built for tests only, by the feature `testing`.

use crate::drain::{DrainBudget, DrainPolicy};
use crate::{AtLimit, BuildError, Error, PoolSpec, Store, StoreBuilder};

/// Uses what test programs use. Nothing calls it.
///
/// # Errors
///
/// Those of the calls.
pub fn builder(builder: StoreBuilder<u64>, spec: &PoolSpec) -> Result<Store<u64>, BuildError> {
    let builder = builder.spec(spec.clone()).limit_bytes(1).at_limit(AtLimit::Evict);
    builder.cold(spec.clone()).drain(DrainPolicy::Never).build()
}

/// As [`builder`] does.
///
/// # Errors
///
/// Those of the calls.
pub fn store(store: &Store<u64>, buffer: &mut [u8]) -> Result<usize, Error> {
    store.store(0, &buffer[..])?;
    store.store(0, Vec::from(&buffer[..]))?;
    let mut found = [store.load(&0, buffer)?, store.peek(&0, buffer)?, store.take(&0, buffer)?];
    found[0] = found[0].or(store.load_range(&0, 0, buffer)?);
    let values = [store.load_vec(&0)?, store.peek_vec(&0)?, store.take_vec(&0)?];
    let is_there = store.contains(&0) || store.invalidate(&0);
    let values = values.iter().flatten().map(Vec::len).sum::<usize>();
    Ok(found.iter().flatten().sum::<usize>() + values + usize::from(is_there))
}

/// As [`builder`] does.
///
/// # Errors
///
/// Those of the calls.
pub fn pools(store: &Store<u64>, spec: &PoolSpec) -> Result<usize, Error> {
    let switched = store.switch(spec).is_ok() && store.switch_and_drain(spec).is_ok();
    store.set_limit(None)?;
    store.retain(|_, _| switched);
    let moved = store.drain(DrainBudget::entries(1)).moved + store.turn_heat_clock().made_cold;
    let (kept, sampled) = (store.keys().count() + store.write_back(), store.sample(1)?.len());
    store.clear();
    store.trim();
    Ok(moved + kept + sampled + store.stats().entries)
}
