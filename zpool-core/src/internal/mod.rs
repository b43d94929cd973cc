//! Internals that the crates of this workspace share. Any release may change or remove anything
//! here.
//!
//! ```text
//!   panic       catch panics of plug-ins, discard their payloads
//!   sync        locks, atomics, threads: parking_lot and core, or loom in a model
//!   cpu         current processor, per-CPU caches            prefetch    cache hints
//!   counted     reference counts sharded by processor        fallible    Arc and Box that can fail
//!   regular_file   opens files that a spec names, without waiting
//! ```
//!
//! Three types are exported here, because plug-ins need no access to them, although their code is
//! elsewhere: [`JobList`] and [`PreparedJob`] in `exec`, [`FrameTable`] in `page`.

#[allow(unsafe_code, reason = "a reference count whose references are plain pointers")]
mod counted;
mod cpu;
#[allow(unsafe_code, reason = "a counted pointer and a box whose making can fail")]
mod fallible;
mod panic;
#[allow(unsafe_code, reason = "an instruction that has no safe function")]
mod prefetch;
mod regular_file;
pub mod sync;

pub use self::counted::{Counted, Dying, Ref, Released};
#[cfg(zpool_loom)]
pub use self::cpu::set_loom_cpu;
pub use self::cpu::{PerCpu, cpu_shards, current_cpu};
pub use self::fallible::{TryArc, try_box};
pub use self::panic::{Foreign, catch, discard_payload, panic_message, take_panic_message};
pub use self::prefetch::{prefetch, prefetch_far};
pub use self::regular_file::open_regular;
pub use crate::exec::job::{PreparedJob, in_job};
pub use crate::exec::job_list::{JobList, Jobs};
pub use crate::page::frame_table::FrameTable;
