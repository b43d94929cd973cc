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
//! - A [`BenchAllocator`] keeps objects. It is a pool or [`BenchBoxes`], the yardstick for every
//!   allocator.
//!
//! # Example
//!
//! ```
//! use benches::{BenchAllocator, BenchBoxes, density, objects, verify};
//!
//! let objects = objects(1, 100);
//! verify(&BenchBoxes, &objects);
//! assert!(density(&BenchBoxes, &objects) >= 1.0);
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

mod bench_allocator;
mod density_boxes;
mod distinct;
mod figure_row;
mod input;
mod objects;
mod program;

pub use bench_allocator::{BenchAllocator, BenchBoxes, BenchPool, density, pools, verify};
pub use density_boxes::density_of_boxes;
pub use distinct::distinct_pages;
pub use figure_row::{FigureRow, FigureRows};
pub use input::{Missing, check_all, name_of, pages_of, store_all};
pub use objects::objects;
pub use program::{Failure, Output, PrintedReport, child, child_task, exit};
