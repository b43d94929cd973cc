//! Two pools: one for a first look, and one of the kind that is worth having.
//!
//! # Forty lines
//!
//! A pool hands out a handle for each object and reads it back through a guard. Nothing else is needed to pass the suite, so this is one:
//!
#![doc = concat!("```\n", include_str!("../../tests/tutorial/shelf.rs"), "# fn main() {}\n```")]
//!
//! with the line
//!
//! ```
//! # mod shelf { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tutorial/shelf.rs")); }
//! # use shelf::Shelf;
//! use zpool_conformance::pool_suite;
//! use zpool_core::HandleMint;
//!
//! pool_suite!(shelf_pool, [], |_source| {
//!     Ok(Box::new(Shelf { mint: HandleMint::new(), shelf: Default::default() }))
//! });
//! ```
//!
//! What it shows:
//!
//! - *Handles* come from a [`HandleMint`](zpool_core::HandleMint) and are opened by it; it finds those of other pools. What an opened handle says is not to be
//!   trusted: here a map of [names](zpool_core::HandleId) is asked, so that a handle somebody made up finds nothing.
//! - *Guards* own what they show: [`ReadGuard::shared`](zpool_core::ReadGuard::shared) takes an `Arc` of the bytes. This pool copies the object for each read, so an object that is freed
//!   under a guard is gone at once; there are no zombies to count.
//! - *Errors* come before anything is done, and `free` gives a handle back that it does not take.
//! - *The books*: `stats` sums to `bytes_held`. It takes no frames of its page source, so it charges none.
//! - *What is not here*: [`exchange`](zpool_core::ZPool::exchange), `compact` and `reclaim` have defaults that do nothing. A pool that hands out copies must leave `exchange` at that: it cannot
//!   tell whether somebody holds an object.
//! - *Blocking*: `insert` and `drop` may, and say so ([`might_block`](zpool_core::might_block)); `read` and `free` must not. (The heap may take a lock of its own; that is not
//!   [meant](zpool_core::NoBlock).)
//!
//! # Frames instead of the heap
//!
//! An allocator exists to lay objects out in pages. This one puts objects of equal size into *blocks* of a frame or a few, which are cut into *cells* of a power of two of bytes. Nothing
//! moves, so there is no compaction; an empty block goes back in `trim`.
//!
//! ```text
//!   block of class 256 bytes, one frame of 4096                 block of class 8192 bytes, two frames
//!   | obj | obj |free | obj | ...              | obj |          |              obj               |
//!     256   256   256   256   16 cells
//! ```
//!
//! ## Step 1: the sizes
//!
//! Arithmetic first, by itself. A frame is what the [page source](zpool_core::page) says, not 4096: the suite runs with frames of 16 KiB as well.
//!
#![doc = concat!("```text\n", include_str!("../../tests/tutorial/blocks/layout.rs"), "```")]
//!
//! ## Step 2: the books
//!
//! Who has which cell, without a look at the bytes: safe code behind one lock. Three things are decided here.
//!
//! - A handle's index is the number of a cell, and cells keep their numbers for good. The *generation* grows when an object leaves, so an old handle is
//!   [stale](zpool_core::PoolError::StaleHandle).
//! - An object that is freed under a guard becomes a *zombie*: its handle is dead, its bytes stay, and its cell is free with the last guard (F1, F2).
//! - The list of free cells has room for all of them from the start, because `free` may not allocate (F5).
//!
#![doc = concat!("```text\n", include_str!("../../tests/tutorial/blocks/books.rs"), "```")]
//!
//! ## Step 3: the pool and its driver
//!
//! The bytes. This is the one file with `unsafe`, because a [`Run`](zpool_core::page::Run) cannot know who else looks at its bytes; the books know. Each block of it
//! answers the numbered list of what it calls, by two invariants that the books keep.
//!
//! - `insert` asks the source for memory with no lock held (N6): the source may block, and so may whoever waits for the lock. It charges frames before it writes them, and gives
//!   the run back when that is refused (N3).
//! - `read` pins, then makes the slice, then a guard that unpins when it is dropped: [`ReadGuard::pinned`](zpool_core::ReadGuard::pinned).
//! - `bytes_held` is frames and metadata; `stats` says what they are used for, and sums to the same (A1).
//!
#![doc = concat!("```text\n", include_str!("../../tests/tutorial/blocks/mod.rs"), "```")]
//!
//! ## Step 4: the suite
//!
//! ```text
//! pool_suite!(
//!     blocks_pool,
//!     [],
//!     |source| BlocksDriver.create(&PoolConfig::new(source, 4096)),
//!     heap_calls = counting::calls,
//! );
//! ```
//!
//! F5 is a claim about the heap, and a global allocator that counts backs it; without `heap_calls` the case that checks it is ignored.
//! The list in brackets is empty: it can neither compact nor reclaim, and the suite shows those cases as ignored. What cases found in drafts of such pools: frames
//! charged and not given back when the second of two calls was refused; a free list that grew in `free`; a zombie's cell that was handed out again.
//!
//! ## Where to go from here
//!
//! - Powers of two waste a quarter on average; `zpool-zsmalloc` has finer classes, zspages that lose little at the end, and compaction.
//! - One lock is enough until many threads insert: the classes have nothing in common but the table of cells.
//! - To let an owner take pages back under pressure implement [`reclaim`](zpool_core::ZPool::reclaim), and list `reclaim`: `zpool-zbud` does.
