//! The tests of this crate that can share a process, as one program: it is compiled and linked
//! once. `Cargo.toml` lists the others.

mod expiry;
mod model;
mod removals;
mod settings;
mod single_flight;
mod threads;
mod versions;
