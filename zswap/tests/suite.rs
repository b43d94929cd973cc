//! The tests of this crate that can share a process, as one program: it is compiled and linked
//! once. `Cargo.toml` lists the others.

#![cfg(not(zpool_loom))]

mod common;

mod accesses;
mod batches;
mod blocks;
mod borrowed_keys;
mod cold;
mod concurrent;
mod conditional;
mod drain;
mod drain_background;
mod drain_races;
mod drain_threads;
mod empty;
mod eviction;
mod eviction_changes;
mod eviction_decisions;
mod eviction_decisions_threads;
mod exchange;
mod export;
mod faults;
mod guards;
mod import;
mod index;
mod large_that_cannot_fit;
mod limit;
mod limit_accounts;
mod limit_changes;
mod limit_contexts;
mod limit_pending;
mod limit_relief;
mod lock_order;
mod making_room;
mod model;
mod model_threads;
mod odd_keys;
mod sample;
mod sample_cold;
mod settings;
mod soak;
mod thrash;
mod tier;
mod tier_faults;
mod tier_hostile;
mod tier_threads;
mod values;
