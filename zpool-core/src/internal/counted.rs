//! Reference counting without a shared hot word: counts a processor each while a value is current, one exact count once it is retired.
//!
//! Every stored block holds a reference to its pool, so every store and free counts. One word for that would bounce between all processors;
//! here each counts in a shard of its own, which can only ever say "at least the retirement reference is left". To find out that the last
//! one went, the value is *retired*: its shards are closed, their sum moves to the central word, and from then on that counts alone.
//!
//! ```text
//!            new                       retire                          last reference goes
//!   (open) ────────► shards count ───────────────► central word counts ─────────────────► zero: Dying<T> to T::released
//!                         ▲                               │                                  (once, no way back)
//!                         └──────────── revive ───────────┘
//!                                 (by somebody who holds a Ref)
//! ```
//!
//! # Protocol
//!
//! - A shard is one word: CLOSED flag and a biased count, which may be negative (taken here, dropped there). Taking or dropping a reference is one
//!   `fetch_add`/`fetch_sub` on the shard of the current processor. The value it returns says whether the shard was open: then the
//!   operation counted. If it was closed, it counted nothing (a closed shard's count is garbage) and is repeated on the central word. So each
//!   operation counts exactly once, wherever it races with closing or opening.
//! - The central word holds, while open, `OPEN + 1`, plus and minus what found its shard closed in the windows below: far from zero. That 1 is
//!   the *identity reference*: being current.
//! - `retire` closes each shard (one RMW that also reads the final count), then in one addition puts the sum into the central word and takes out `OPEN` and
//!   the identity reference. Before that addition nobody can see zero; from then on the word is exact, and whoever brings it to zero, a drop or
//!   the retirement itself, is the one that reports it.
//! - On a closed shard, taking a reference is increment-unless-zero: zero is final.
//! - `revive` needs a [`Ref`], so the word is not zero. It adds `OPEN + 1`, which gives the identity reference back, and only then opens the shards,
//!   discarding their garbage. The caller's `Ref` is dropped as any other. (Restoring the identity reference twice or not at all is the trap of B38.)
//! - `retire` and `revive` exclude each other by a mutex that nobody else takes.

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

/// A shard's flag: operations on it count nothing.
const CLOSED: u64 = 1 << 63;
/// A shard's count of nothing, so that it can go below.
const ZERO: u64 = 1 << 62;
/// What keeps the central word from zero while any shard is open.
const OPEN: u64 = 1 << 62;

/// What is counted is told when it is over.
pub trait Released: Send + Sync + Sized + 'static {
    /// The last reference of a retired value has gone; `dying` is the value.
    ///
    /// Called exactly once for each value, on the thread that dropped the last reference: it must not block.
    fn released(dying: Dying<Self>);
}

/// A value, and how many use it. Lives in an [`Arc`], which keeps this block but not the value: use the value through a [`Ref`].
pub struct Counted<T: Released> {
    shards: Box<[CachePadded<AtomicU64>]>,
    central: CachePadded<AtomicU64>,
    /// Is it retired? Held for the whole of a retirement or revival.
    retired: Mutex<bool>,
    /// Keeps the block while the value is there; becomes the `Dying`'s.
    own: Mutex<Option<Arc<Counted<T>>>>,
    /// # Invariants
    ///
    /// 1. Holds a value, shared by reference, until the central word is zero; then it belongs to the one [`Dying`].
    /// 2. Until then `own` keeps the block alive.
    value: UnsafeCell<ManuallyDrop<T>>,
}

// SAFETY: the value is only shared by reference (T: Sync) until one thread takes it (T: Send); `Released` asks for both. The rest is atomics and a mutex.
unsafe impl<T: Released> Send for Counted<T> {}
// SAFETY: as above.
unsafe impl<T: Released> Sync for Counted<T> {}

impl<T: Released> Counted<T> {
    /// A value with its identity reference and no other.
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

    /// Takes a reference, unless the last one is gone.
    #[inline]
    pub fn try_ref(&self) -> Option<Ref<T>> {
        // Relaxed: the caller found the block through something that published it; counting publishes nothing.
        let before = self.shard().fetch_add(1, Ordering::Relaxed);
        if before & CLOSED == 0 || self.take_central() {
            Some(Ref { block: NonNull::from(self) })
        } else {
            None
        }
    }

    /// Drops the identity reference and makes the count exact. If no other reference is left, the value is released within this call.
    ///
    /// Returns false, without effect, if it was retired already.
    pub fn retire(&self) -> bool {
        let mut retired = self.retired.lock();
        if core::mem::replace(&mut *retired, true) {
            return false;
        }
        let mut sum = 0u64;
        for shard in &self.shards {
            // AcqRel: acquires what the dropping threads released (see `Ref::drop`); Release is for `revive`'s swap.
            let before = shard.fetch_or(CLOSED, Ordering::AcqRel);
            sum = sum.wrapping_add(before.wrapping_sub(ZERO));
        }
        let change = sum.wrapping_sub(OPEN + 1);
        // AcqRel: passes on what was acquired from the shards to whoever sees zero, and acquires what central drops released.
        let after = self.central.fetch_add(change, Ordering::AcqRel).wrapping_add(change);
        drop(retired);
        if after == 0 {
            // SAFETY: this addition brought the word to zero; the caller's reference keeps the block for the whole call.
            unsafe { Counted::report_zero(NonNull::from(self)) }
        }
        true
    }

    /// Makes a retired value current again: restores the identity reference and counts in shards.
    ///
    /// Returns false, without effect, if it is not retired.
    pub fn revive(of: &Ref<T>) -> bool {
        let block = of.counted();
        let mut retired = block.retired.lock();
        if !core::mem::replace(&mut *retired, false) {
            return false;
        }
        // AcqRel: keeps the chain of central RMWs a release sequence. `of` is alive, so the word was not zero.
        block.central.fetch_add(OPEN + 1, Ordering::AcqRel);
        for shard in &block.shards {
            // AcqRel: as for closing; the count that is overwritten is garbage.
            shard.swap(ZERO, Ordering::AcqRel);
        }
        true
    }

    /// Is it retired?
    pub fn is_retired(&self) -> bool {
        *self.retired.lock()
    }

    /// References now, the identity reference not among them. Exact for a retired value while nobody counts; else near.
    pub fn references(&self) -> u64 {
        let retired = self.retired.lock();
        // Relaxed: statistics only.
        let central = self.central.load(Ordering::Relaxed);
        if *retired {
            return central;
        }
        let shards = self.shards.iter().map(|s| s.load(Ordering::Relaxed).wrapping_sub(ZERO));
        let sum = shards.fold(central.wrapping_sub(OPEN + 1), u64::wrapping_add);
        // Taken on a shard read early, dropped on one read late: a torn sum may fall below zero.
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
            // AcqRel: keeps the chain of central RMWs a release sequence. Relaxed on failure: a new guess.
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

    /// Decrements the central word; who brings it to zero reports it. Takes a pointer: once this thread's reference is not counted any more,
    /// others may free the block before this returns, and a reference must be good for as long as the function it was given to.
    ///
    /// # Safety
    ///
    /// 1. The caller has a reference that counts in the central word of `this`, and gives it up.
    #[cold]
    unsafe fn drop_central(this: NonNull<Self>) {
        // SAFETY: (1): the block is there until the subtraction; what is borrowed from it is an atomic, as in std's own Arc.
        let central: &AtomicU64 = unsafe { &(*this.as_ptr()).central };
        // AcqRel: releases this thread's use of the value, acquires everybody else's for the one that sees zero.
        if central.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: `report_zero`(1): this subtraction did it, and `own` has kept the block (invariant 2).
            unsafe { Counted::report_zero(this) }
        }
    }

    /// Takes a pointer for the reason given at `drop_central`: what is released may be gone before this returns.
    ///
    /// # Safety
    ///
    /// 1. The calling thread has just brought the central word of `this` to zero, and has not reported it.
    #[cold]
    unsafe fn report_zero(this: NonNull<Self>) {
        // Acquire: pairs with the Release part of every central RMW; the loads of those RMWs did already, this says so once for the value.
        fence(Ordering::Acquire);
        let block = {
            // SAFETY: (1), and invariant 2: the block is there until `own` is taken, and then `block` has it.
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

/// A counted reference: the value does not go while this lives. One word.
pub struct Ref<T: Released> {
    /// Counted in the block: so its value and (invariant 2 of [`Counted`]) the block itself are alive.
    block: NonNull<Counted<T>>,
}

// SAFETY: like a shared reference to T, and its drop may release T on any thread: `Released` asks for Send and Sync.
unsafe impl<T: Released> Send for Ref<T> {}
// SAFETY: as above.
unsafe impl<T: Released> Sync for Ref<T> {}

impl<T: Released> Ref<T> {
    /// The block that counts `this`, to keep: unlike the reference it does not keep the value.
    pub fn block(this: &Ref<T>) -> Arc<Counted<T>> {
        // Only the zero of the count takes it out, and a reference is held.
        this.counted().own.lock().clone().expect("the value is there, so its block has itself")
    }

    #[inline]
    fn counted(&self) -> &Counted<T> {
        // SAFETY: alive as long as this reference is counted.
        unsafe { self.block.as_ref() }
    }

    /// Do both refer to the same value?
    pub fn same(a: &Ref<T>, b: &Ref<T>) -> bool {
        a.block == b.block
    }

    /// A number that no other value has while this reference lives.
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
        // Release: what this thread did with the value comes before the closing of the shard, which acquires it. Once an open shard has
        // counted this, the block may be gone: nothing touches it afterwards. If the shard was closed, the reference still counts in
        // the central word.
        let before = shard.fetch_sub(1, Ordering::Release);
        if before & CLOSED != 0 {
            // SAFETY: `drop_central`(1): the closed shard counted nothing, so this reference counts there; this is its drop.
            unsafe { Counted::drop_central(self.block) }
        }
    }
}

impl<T: Released + fmt::Debug> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A value whose last reference has gone: made once for each, and the only thing that can take it apart. Dropping it drops the value.
pub struct Dying<T: Released> {
    block: Arc<Counted<T>>,
    taken: bool,
}

impl<T: Released> Dying<T> {
    /// The block that counted `this`. Its count is zero for good.
    pub fn block(this: &Dying<T>) -> &Arc<Counted<T>> {
        &this.block
    }

    /// The value, whole, out of its block. The block itself goes with the last Arc.
    pub fn into_value(mut self) -> T {
        self.taken = true;
        let value = self.block.value.get();
        // SAFETY: invariant 1: this is the one Dying, and nobody has a reference.
        let value = unsafe { &mut *value };
        // SAFETY: taken once: `self` is consumed, and `taken` tells its drop.
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
