//! The tests of this crate that can share a process, as one program: it is compiled and linked
//! once. `Cargo.toml` lists the others.

#![cfg(not(zpool_loom))]

mod common;

mod cold;
mod contexts;
mod foreign_calls;
mod many_pools;
mod payloads;
mod plugins;
mod queue;
mod reentry;
mod relay;
mod release;
mod scenarios;
mod storms;
mod switching;
mod waits;
