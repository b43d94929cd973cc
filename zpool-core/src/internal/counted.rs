//! Reference counting without a shared hot word: per-CPU counts while a value is current, one exact
//! count once it is retired. (The kernel's `percpu_ref` does the same.)
//!
//! Every store takes a reference to the current pool and every load one to its block's pool, so
//! every call counts. One word for that would bounce between all processors. Here each processor
//! counts in a shard of its own, which can only show that at least the identity reference is left.
//! To detect the last reference, the value is *retired*: its shards are closed, their sum moves to
//! the central word, and from then on only that word counts.
//!
//! ```text
//!            new                    retire                         last Ref dropped
//!   (open) ──────► shards count ─────────────► central word counts ──────────────► zero
//!                       ▲                            │                              │ once
//!                       └───── revive, with a Ref ───┘                              ▼
//!                                                                       T::released(Dying<T>)
//! ```
//!
//! # Protocol
//!
//! - A shard is one word: a CLOSED flag and a biased count, which may be negative, since a
//!   reference may be taken on one processor and dropped on another. Taking or dropping a reference
//!   is one `fetch_add` or `fetch_sub` on the shard of the current processor, whose result shows
//!   whether the shard was open. If it was open, the operation counted. If it was closed, it
//!   counted nothing (the count of a closed shard is garbage) and is repeated on the central word.
//!   So each operation counts exactly once, even if it races with closing or opening.
//! - While shards are open, the central word holds `OPEN + 1`, plus and minus the operations that
//!   found their shard closed. That is far from zero. The 1 is the *identity reference*: being
//!   current.
//! - `retire` closes each shard by one RMW that also reads the final count. Then one addition puts
//!   the sum into the central word and takes out `OPEN` and the identity reference. Before that
//!   addition no thread can see zero. From then on the word is exact, and the operation that brings
//!   it to zero, a drop or the retirement itself, reports it.
//! - On a closed shard, taking a reference is increment-unless-zero: zero is final.
//! - `revive` needs a [`Ref`], so the word is not zero. It adds `OPEN + 1`, which restores the
//!   identity reference, and only then opens the shards, discarding their garbage. The caller's
//!   `Ref` is dropped like any other. (B38 restored the identity reference twice, or not at all.)
//! - `retire` and `revive` exclude each other by a mutex that no other operation takes.

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::internal::sync::Mutex;
use crate::internal::sync::atomic::{AtomicU64, Ordering, fence};
use crate::internal::{cpu_shards, current_cpu};

/// Flag of a shard: operations on it count nothing.
const CLOSED: u64 = 1 << 63;
/// Bias of a shard's count, so that it can fall below zero.
const ZERO: u64 = 1 << 62;
/// Keeps the central word from zero while any shard is open.
const OPEN: u64 = 1 << 62;

/// Implemented by counted values; called when the last reference to a retired value is dropped.
pub trait Released: Send + Sync + Sized + 'static {
    /// Receives the value whose last reference is gone.
    ///
    /// Called exactly once per value, on the thread that dropped the last reference: it must not
    /// block.
    fn released(dying: Dying<Self>);
}

/// A value with its reference count. Lives in an [`Arc`], which keeps this block but not the value:
/// use the value through a [`Ref`].
pub struct Counted<T: Released> {
    shards: Box<[CachePadded<AtomicU64>]>,
    central: CachePadded<AtomicU64>,
    /// Whether the value is retired. Locked for the whole of a retirement or revival.
    retired: Mutex<bool>,
    /// Keeps the block alive while the value exists; passed on to the `Dying`.
    own: Mutex<Option<Arc<Counted<T>>>>,
    /// # Invariants
    ///
    /// 1. Holds a value, shared by reference, until the central word is zero; then it belongs to
    ///    the one [`Dying`].
    /// 2. Until then `own` keeps the block alive.
    value: UnsafeCell<ManuallyDrop<T>>,
}

// SAFETY: the value is only shared by reference (T: Sync) until one thread takes it (T: Send);
// `Released` requires both. The rest is atomics and a mutex.
unsafe impl<T: Released> Send for Counted<T> {}
// SAFETY: as above.
unsafe impl<T: Released> Sync for Counted<T> {}

impl<T: Released> Counted<T> {
    /// Makes a value with its identity reference and no other.
    pub fn new(value: T) -> Arc<Counted<T>> {
        let block = Arc::new(Counted {
            shards: (0..cpu_shards()).map(|_| CachePadded::new(AtomicU64::new(ZERO))).collect(),
            central: CachePadded::new(AtomicU64::new(OPEN + 1)),
            retired: Mutex::new(false),
            own: Mutex::new(None),
            value: UnsafeCell::new(ManuallyDrop::new(value)),
        });
        *block.own.lock() = Some(block.clone());
        block
    }

    /// Takes a reference, unless the last one was dropped.
    #[inline]
    pub fn try_ref(&self) -> Option<Ref<T>> {
        // Relaxed: the caller found the block through something that published it; counting
        // publishes nothing.
        let before = self.shard().fetch_add(1, Ordering::Relaxed);
        if before & CLOSED == 0 || self.take_central() {
            Some(Ref { block: NonNull::from(self) })
        } else {
            None
        }
    }

    /// Drops the identity reference and makes the count exact. If no other reference is left, the
    /// value is released within this call.
    ///
    /// Returns false, without effect, if the value is retired already.
    pub fn retire(&self) -> bool {
        let mut retired = self.retired.lock();
        if core::mem::replace(&mut *retired, true) {
            return false;
        }
        let mut sum = 0u64;
        for shard in &self.shards {
            // AcqRel: acquires what the dropping threads released (see `Ref::drop`). Release is for
            // the swap in `revive`.
            let before = shard.fetch_or(CLOSED, Ordering::AcqRel);
            sum = sum.wrapping_add(before.wrapping_sub(ZERO));
        }
        let change = sum.wrapping_sub(OPEN + 1);
        // AcqRel: passes what was acquired from the shards on to the thread that sees zero, and
        // acquires what central drops released.
        let after = self.central.fetch_add(change, Ordering::AcqRel).wrapping_add(change);
        drop(retired);
        if after == 0 {
            // SAFETY: this addition brought the word to zero; the caller's reference keeps the
            // block for the whole call.
            unsafe { Counted::report_zero(NonNull::from(self)) }
        }
        true
    }

    /// Makes a retired value current again: restores the identity reference and counts in shards.
    ///
    /// Returns false, without effect, if the value is not retired.
    pub fn revive(of: &Ref<T>) -> bool {
        let block = of.counted();
        let mut retired = block.retired.lock();
        if !core::mem::replace(&mut *retired, false) {
            return false;
        }
        // AcqRel: keeps the chain of central RMWs a release sequence. `of` is alive, so the word
        // was not zero.
        block.central.fetch_add(OPEN + 1, Ordering::AcqRel);
        for shard in &block.shards {
            // AcqRel: as for closing; the overwritten count is garbage.
            shard.swap(ZERO, Ordering::AcqRel);
        }
        true
    }

    /// Returns whether the value is retired.
    pub fn is_retired(&self) -> bool {
        *self.retired.lock()
    }

    /// Returns the number of references, without the identity reference. Exact for a retired value
    /// while no thread counts; otherwise an estimate.
    pub fn references(&self) -> u64 {
        let retired = self.retired.lock();
        // Relaxed: statistics only.
        let central = self.central.load(Ordering::Relaxed);
        if *retired {
            return central;
        }
        let shards = self.shards.iter().map(|s| s.load(Ordering::Relaxed).wrapping_sub(ZERO));
        let sum = shards.fold(central.wrapping_sub(OPEN + 1), u64::wrapping_add);
        // A reference taken on a shard read early and dropped on one read late: the sum may fall
        // below zero.
        if sum >= CLOSED { 0 } else { sum }
    }

    #[inline]
    fn shard(&self) -> &AtomicU64 {
        // The number of shards is a power of two.
        &self.shards[current_cpu() & (self.shards.len() - 1)]
    }

    /// Increments the central word unless it is zero.
    #[cold]
    fn take_central(&self) -> bool {
        let mut count = self.central.load(Ordering::Relaxed);
        while count != 0 {
            // AcqRel: keeps the chain of central RMWs a release sequence. Relaxed on failure: a new
            // guess.
            match self.central.compare_exchange_weak(
                count,
                count + 1,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => count = seen,
            }
        }
        false
    }

    /// Decrements the central word, and reports a zero.
    ///
    /// Takes a pointer: once this thread's reference is not counted any more, another thread may
    /// free the block before this returns, and a reference must be valid for the whole call that it
    /// is passed to.
    ///
    /// # Safety
    ///
    /// 1. The caller has a reference that counts in the central word of `this`, and gives it up.
    #[cold]
    unsafe fn drop_central(this: NonNull<Self>) {
        // SAFETY: (1): the block exists until the subtraction; only an atomic is borrowed from it,
        // as in std's own Arc.
        let central: &AtomicU64 = unsafe { &(*this.as_ptr()).central };
        // AcqRel: releases this thread's use of the value, and acquires that of all other threads
        // for the one that sees zero.
        if central.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: `report_zero`(1): this subtraction did it, and `own` has kept the block
            // (invariant 2).
            unsafe { Counted::report_zero(this) }
        }
    }

    /// Passes the value to [`Released`]. Takes a pointer for the reason given at `drop_central`.
    ///
    /// # Safety
    ///
    /// 1. The calling thread has just brought the central word of `this` to zero, and has not
    ///    reported it.
    #[cold]
    unsafe fn report_zero(this: NonNull<Self>) {
        // Acquire: pairs with the Release part of every central RMW. The loads of those RMWs did
        // that already; this fence states it once for the value.
        fence(Ordering::Acquire);
        let block = {
            // SAFETY: (1), and invariant 2: the block exists until `own` is taken, and then `block`
            // owns it.
            let own = unsafe { &(*this.as_ptr()).own };
            own.lock().take().expect("zero is reached once")
        };
        T::released(Dying { block, taken: false });
    }
}

impl<T: Released> fmt::Debug for Counted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").field("references", &self.references()).finish_non_exhaustive()
    }
}

/// A counted reference, which keeps the value alive. One word.
pub struct Ref<T: Released> {
    /// Counted in the block, so its value and (invariant 2 of [`Counted`]) the block itself are
    /// alive.
    block: NonNull<Counted<T>>,
}

// SAFETY: like a shared reference to T, and its drop may release T on any thread: `Released`
// requires Send and Sync.
unsafe impl<T: Released> Send for Ref<T> {}
// SAFETY: as above.
unsafe impl<T: Released> Sync for Ref<T> {}

impl<T: Released> Ref<T> {
    /// Returns the block that counts `this`, to keep. Unlike a reference, it does not keep the
    /// value.
    pub fn block(this: &Ref<T>) -> Arc<Counted<T>> {
        // Only a count of zero takes it out, and a reference is held.
        this.counted().own.lock().clone().expect("the value exists, so the block owns itself")
    }

    #[inline]
    fn counted(&self) -> &Counted<T> {
        // SAFETY: alive as long as this reference is counted.
        unsafe { self.block.as_ref() }
    }

    /// Returns whether both refer to the same value.
    pub fn same(a: &Ref<T>, b: &Ref<T>) -> bool {
        a.block == b.block
    }

    /// Returns a number that no other value has while this reference lives.
    pub fn number(this: &Ref<T>) -> usize {
        this.block.as_ptr().addr()
    }
}

impl<T: Released> Deref for Ref<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        let value = self.counted().value.get();
        // SAFETY: invariant 1: the count is not zero, so the value is there and only shared.
        unsafe { &*value }
    }
}

impl<T: Released> Clone for Ref<T> {
    #[inline]
    fn clone(&self) -> Self {
        self.counted().try_ref().expect("a reference is held, so the count is not zero")
    }
}

impl<T: Released> Drop for Ref<T> {
    #[inline]
    fn drop(&mut self) {
        let shard = self.counted().shard();
        // Release: this thread's use of the value comes before the closing of the shard, which
        // acquires it. Once an open shard has counted this, the block may be gone, and nothing here
        // touches it again. If the shard was closed, the reference still counts in the central
        // word.
        let before = shard.fetch_sub(1, Ordering::Release);
        if before & CLOSED != 0 {
            // SAFETY: `drop_central`(1): the closed shard counted nothing, so this reference counts
            // there; this is its drop.
            unsafe { Counted::drop_central(self.block) }
        }
    }
}

impl<T: Released + fmt::Debug> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A value whose last reference is gone. Made once per value, and the only thing that can take it
/// apart. Dropping it drops the value.
pub struct Dying<T: Released> {
    block: Arc<Counted<T>>,
    taken: bool,
}

impl<T: Released> Dying<T> {
    /// Returns the block that counted `this`. Its count stays zero.
    pub fn block(this: &Dying<T>) -> &Arc<Counted<T>> {
        &this.block
    }

    /// Moves the value out of its block. The block itself is freed with its last `Arc`.
    pub fn into_value(mut self) -> T {
        self.taken = true;
        let value = self.block.value.get();
        // SAFETY: invariant 1: this is the one Dying, and there is no reference.
        let value = unsafe { &mut *value };
        // SAFETY: taken once: `self` is consumed, and its drop sees `taken`.
        unsafe { ManuallyDrop::take(value) }
    }
}

impl<T: Released> Deref for Dying<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let value = self.block.value.get();
        // SAFETY: invariant 1: the value is this Dying's, and not taken, since that consumes it.
        unsafe { &*value }
    }
}

impl<T: Released> Drop for Dying<T> {
    fn drop(&mut self) {
        if !self.taken {
            let value = self.block.value.get();
            // SAFETY: as in `into_value`.
            let value = unsafe { &mut *value };
            // SAFETY: dropped once: not taken, and this is the drop.
            unsafe { ManuallyDrop::drop(value) };
        }
    }
}

impl<T: Released> fmt::Debug for Dying<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dying")
    }
}
