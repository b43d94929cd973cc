//! The tests of this crate that can share a process, as one program: it is compiled and linked
//! once. `Cargo.toml` lists the others.

mod common;

mod analyze;
mod cli;
mod files;
mod front;
mod replay;
mod storm;
mod tuning;
