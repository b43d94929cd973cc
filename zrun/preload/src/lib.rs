//! The library that `zrun` preloads: it puts the large anonymous memory of a program, which knows
//! nothing of it, into a region with a limit.
//!
//! ```text
//!   program ── mmap, munmap, mremap, madvise, mprotect ──┐   private, anonymous, readable and
//!           ── malloc, realloc, free ... ────────────────┤   writable, large: the reserve
//!           ── fork: pthread_atfork ─────────────────────┤
//!           ── close, dup2 ... ──────────────────────────┘   everything else: the system, glibc
//! ```
//!
//! # The nouns
//!
//! - The *reserve* is address space of a region, of which parts are opened for mappings and large
//!   blocks of the heap.
//! - The *range table* says which parts are used, free, or given up to other mappings.
//! - To *enter* is to lock the range table with all signals blocked.
//!
//! # What correctness rests on
//!
//! - **Z1 Serving a fault never touches the reserve.** The engine's heap is glibc's own
//!   (`__libc_malloc`), whose memory is never in the reserve, because glibc maps it by calls inside
//!   of itself. In a program that replaces these functions, this library does nothing. The engine's
//!   mappings are system calls of rustix, which bypass interposable symbols.
//! - **Z2 Small blocks stay in glibc.** So what glibc keeps for itself, such as streams and thread
//!   control blocks, is never in the reserve, and a forked child may touch it before it resumes. A
//!   stack that the program passes to `pthread_attr_setstack` is kept resident.
//! - **Z3 No lock is held that a fault needs.** Handlers take no lock of this library. A fork takes
//!   the lock of glibc's list of streams first, then ours, and stops the handlers last. So no
//!   thread waits for a fault while it holds a lock that the rest of the fork needs.
//! - **Z4 A forked child has a copy, or ends.** It gets a region of its own, which shares pages and
//!   blocks with its parent until one of them writes. If the system refuses that, the child ends
//!   with a message. A child of a bare system call has no memory of the reserve, and an access
//!   ends it.
//! - **Z5 The program cannot close the reserve's descriptors.** Handlers have tables of descriptors
//!   of their own, and `close`, `close_range`, `closefrom`, `dup2` and `dup3` spare ours.
//! - **Z6 What is not understood passes through, or fails.** A fixed mapping over the reserve takes
//!   its range out of it for ever. Requests that cannot be served exactly are errors that the
//!   manual allows.
//!
//! # Where to read next
//!
//! `start.rs`, `space.rs`, `maps.rs`; `zpool-region/src/reserve.rs` for the memory behind it, and
//! docs/decisions/0055.

#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64", not(zpool_loom)))]
// A test program must not have its own `malloc` and `mmap` replaced.
#![cfg_attr(test, allow(dead_code, reason = "tests export no functions"))]

#[allow(unsafe_code, reason = "system calls, and functions of glibc")]
mod calls;
#[allow(unsafe_code, reason = "replaces functions of libc")]
mod descriptors;
#[allow(unsafe_code, reason = "runs around a fork")]
mod fork;
#[allow(unsafe_code, reason = "replaces functions of libc")]
mod heap;
#[allow(unsafe_code, reason = "an allocator has no safe interface")]
mod libc_heap;
#[allow(unsafe_code, reason = "replaces functions of libc")]
mod maps;
mod range_table;
#[allow(unsafe_code, reason = "replaces functions of libc")]
mod remap;
mod report;
mod settings;
#[allow(unsafe_code, reason = "opens and closes memory of the program")]
mod space;
#[allow(unsafe_code, reason = "runs when the library is loaded, and when the program ends")]
mod start;
