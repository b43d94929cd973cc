//! The tests of this crate that can share a process, as one program: it is compiled and linked
//! once. `Cargo.toml` lists the others.

#![cfg(not(zpool_loom))]

mod common;

mod accounts;
mod background;
mod exchange;
mod frames;
mod many_readers;
mod model;
mod neighbours;
mod overlap;
mod packing;
mod panics;
mod scenarios;
mod single_objects;
mod stress;
mod tiny;
