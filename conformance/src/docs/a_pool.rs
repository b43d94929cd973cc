//! Two pools: a minimal one, and one that takes frames from a page source.
//!
//! # A minimal pool
//!
//! A pool returns a handle for each object and reads the object through a guard. Nothing else is
//! needed to pass the suite:
//!
#![doc = concat!("```\n", include_str!("../../tests/tutorial/shelf.rs"), "# fn main() {}\n```")]
//!
//! with this line:
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
//! - *Handles* come from a [`HandleMint`](zpool_core::HandleMint), which also opens them and finds
//!   those of other pools. Do not trust an opened handle. This pool looks up the handle's
//!   [name](zpool_core::HandleId) in a map, so a made-up handle finds nothing.
//! - *Guards* own what they show. [`ReadGuard::shared`](zpool_core::ReadGuard::shared) takes an
//!   `Arc` of the bytes. This pool copies the object for each read, so an object that is freed
//!   under a guard is gone at once, and there are no zombies to count.
//! - *Errors* come before any change, and `free` returns a handle that it refuses.
//! - *Accounting*: `stats` sums to `bytes_held`. The pool takes no frames of its page source, so it
//!   charges none.
//! - *Left out*: [`exchange`](zpool_core::ZPool::exchange), `compact` and `reclaim` have defaults
//!   that do nothing. A pool that hands out copies must keep that default of `exchange`, because it
//!   cannot know whether a guard holds an object.
//! - *Blocking*: `insert` and `drop` may block and report it
//!   ([`might_block`](zpool_core::might_block)), and `read` and `free` must not. A lock inside the
//!   heap does not [count](zpool_core::NoBlock).
//!
//! # Frames instead of the heap
//!
//! An allocator lays objects out in pages. This one puts objects of equal size into *blocks* of one
//! or more frames, cut into *cells* of a power of two of bytes. Nothing moves, so there is no
//! compaction. A trim releases empty blocks.
//!
//! ```text
//!   block of class 256 bytes, one frame of 4096              block of class 8192 bytes, 2 frames
//!   | obj | obj |free | obj | ...              | obj |       |              obj               |
//!     256   256   256   256   16 cells
//! ```
//!
//! ## Step 1: the sizes
//!
//! The arithmetic comes first and stands by itself. The size of a frame comes from the [page
//! source](zpool_core::page), and is not always 4096. The suite also runs with frames of 16 KiB.
//!
#![doc = concat!("```text\n", include_str!("../../tests/tutorial/blocks/layout.rs"), "```")]
//!
//! ## Step 2: the accounts
//!
//! The tables record who owns each cell, and hold none of the bytes. They are safe code behind one
//! lock, which makes three decisions.
//!
//! - A handle's index is the number of a cell, which is fixed. The *generation* grows when an
//!   object leaves, so an old handle is [stale](zpool_core::PoolError::StaleHandle).
//! - An object that is freed under a guard becomes a *zombie*. Its handle is dead, its bytes stay,
//!   and its cell becomes free with the last guard (F1, F2).
//! - The list of free cells has room for all of them from the start, because `free` must not
//!   allocate (F5).
//!
#![doc = concat!("```text\n", include_str!("../../tests/tutorial/blocks/accounts.rs"), "```")]
//!
//! ## Step 3: the pool and its driver
//!
//! This file handles the bytes. It is the only one with `unsafe`, because a
//! [`Run`](zpool_core::page::Run) cannot know who else uses its bytes. Each unsafe block answers
//! the numbered list of its callee, by two invariants of the tables of step 2.
//!
//! - `insert` asks the source for memory without a lock (N6), because the source may block. It
//!   charges frames before it writes them, and returns the run if that is refused (N3).
//! - `read` pins, then makes the slice, then a guard that unpins when it is dropped:
//!   [`ReadGuard::pinned`](zpool_core::ReadGuard::pinned).
//! - `bytes_held` is frames and metadata. `stats` divides them by use, and sums to the same (A1).
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
//! F5 is a claim about the heap, which a counting global allocator checks. Without `heap_calls`
//! that case is ignored. The list in brackets is empty, because the pool can neither compact nor
//! reclaim, and the suite shows those cases as ignored. In drafts of such pools, the cases found
//! frames that stayed charged when the second of two calls was refused, a free list that grew in
//! `free`, and a zombie's cell that was handed out again.
//!
//! ## Where to go from here
//!
//! - Powers of two waste 1/4 on average. `zpool-zsmalloc` has finer classes, zspages with short
//!   tails, and compaction.
//! - One lock is enough until many threads insert. The classes share only the table of cells.
//! - To let an owner return pages under pressure, implement [`reclaim`](zpool_core::ZPool::reclaim)
//!   and list `reclaim`, as `zpool-zbud` does.
