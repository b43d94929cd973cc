//! The tests of this crate that can share a process, as one program: it is compiled and linked
//! once. `Cargo.toml` lists the others.

mod kept_frames;
mod packing;
mod reclaim;
mod release;
mod wiping;
