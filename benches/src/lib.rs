//! What the bench programs share: the back ends compared, and objects for them.
//!
//! ```text
//!   Generator ──► pages ──► lz4 ──► objects ──► insert, read, free ──► zbud, zsmalloc, a box an object
//! ```
//!
//! # The nouns
//!
//! - An *object* is a page compressed, or kept raw where it does not shrink: what an allocator gets from a store.
//! - A [`Packer`] is who keeps objects: a pool, or [`Boxes`], the yardstick that any allocator has to be compared with.
//!
//! # Example
//!
//! ```
//! use benches::{Boxes, Packer, density, objects, verify};
//!
//! let objects = objects(1, 100);
//! verify(&Boxes, &objects);
//! assert!(density(&Boxes, &objects) >= 1.0);
//! ```
//!
//! # Licence
//!
//! Nothing here, and no criterion program, may link zpool-lzo: see the manifest.
//!
//! # Where to read next
//!
//! `benches/pools.rs`.

#![forbid(unsafe_code)]

mod density_boxes;
mod distinct;
mod objects;
mod packer;

pub use density_boxes::density_of_boxes;
pub use distinct::distinct_pages;
pub use objects::objects;
pub use packer::{Boxes, Packer, PoolPacker, density, pools, verify};
