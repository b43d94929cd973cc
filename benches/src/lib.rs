//! The shared part of the bench programs: the back ends compared, the objects for them, and the
//! command line.
//!
//! ```text
//!   Generator ──► pages ──► lz4 ──► objects ──► insert, read, free ──► zbud, zsmalloc, boxes
//! ```
//!
//! # The nouns
//!
//! - An *object* is a page compressed, or kept raw if it does not shrink, which is what a store
//!   passes to an allocator.
//! - A [`Packer`] keeps objects. It is a pool or [`Boxes`], the yardstick for every allocator.
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
//! Neither this library nor a criterion program may link zpool-lzo. The manifest says why.
//!
//! # Where to read next
//!
//! `benches/pools.rs` for the criterion programs, `program.rs` for a new report program.

#![forbid(unsafe_code)]

mod density_boxes;
mod distinct;
mod figure_row;
mod input;
mod objects;
mod packer;
mod program;

pub use density_boxes::density_of_boxes;
pub use distinct::distinct_pages;
pub use figure_row::{FigureRow, FigureRows};
pub use input::{name_of, pages_of};
pub use objects::objects;
pub use packer::{Boxes, Packer, PoolPacker, density, pools, verify};
pub use program::{Failure, Output, PrintedReport, child, child_task, exit};
