//! An allocator around another one, with scripted behaviour.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU8, AtomicUsize, Ordering};

use zswap::plugin::zpool_core::{CompactionBudget, CompactionReport, Pins};
use zswap::plugin::{
    Capabilities, CreateError, FreeError, Handle, Params, PoolConfig, PoolError, PoolId, PoolStats,
    ReadGuard, Violation, ZPool, ZPoolDriver,
};

/// Scripted outcome of inserting an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OnInsert {
    Work,
    OutOfMemory,
    Panic,
}

/// Scripted outcome of reading an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OnRead {
    Work,
    /// Returns the object with its middle bit flipped.
    Flip,
    /// Returns all but the last byte.
    Cut,
    Fail,
    Panic,
}

/// Scripted outcome of freeing an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OnFree {
    Work,
    Refuse,
    Panic,
}

/// Scripted outcome of exchanging the objects of two handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OnExchange {
    Work,
    Decline,
    Panic,
    /// Exchanges them, then panics.
    WorkAndPanic,
}

/// Scripted outcome of releasing memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OnGiveBack {
    Work,
    PanicInTrim,
    PanicInCompact,
}

const ON_INSERT: [OnInsert; 3] = [OnInsert::Work, OnInsert::OutOfMemory, OnInsert::Panic];
const ON_READ: [OnRead; 5] = [OnRead::Work, OnRead::Flip, OnRead::Cut, OnRead::Fail, OnRead::Panic];
const ON_FREE: [OnFree; 3] = [OnFree::Work, OnFree::Refuse, OnFree::Panic];
const ON_EXCHANGE: [OnExchange; 4] =
    [OnExchange::Work, OnExchange::Decline, OnExchange::Panic, OnExchange::WorkAndPanic];
const ON_GIVE_BACK: [OnGiveBack; 3] =
    [OnGiveBack::Work, OnGiveBack::PanicInTrim, OnGiveBack::PanicInCompact];

#[derive(Debug, Default)]
pub struct PoolScript {
    insert: AtomicU8,
    read: AtomicU8,
    free: AtomicU8,
    exchange: AtomicU8,
    give_back: AtomicU8,
    /// How often two handles' objects were exchanged.
    pub exchanges: AtomicUsize,
    /// How often `trim` or `compact` panicked.
    pub gave_nothing_back: AtomicUsize,
    /// How often pools were trimmed.
    pub trims: AtomicUsize,
    /// Whether compaction declines to estimate its gain.
    pub no_estimates: AtomicBool,
    /// Whether it panics when it is asked what it holds.
    asked_panics: AtomicBool,
    /// Number of reads to come that fail with `TooManyReaders`.
    crowded_reads: AtomicUsize,
    /// Number of unpins to come that panic. Guards are pins while this is not 0.
    unpin_panics: AtomicUsize,
    /// Objects inserted and not freed.
    live: AtomicIsize,
    /// Pools dropped with objects in them.
    pub dropped_with_objects: AtomicUsize,
}

impl PoolScript {
    pub fn new() -> Arc<PoolScript> {
        Arc::default()
    }

    pub fn on_insert(&self, what: OnInsert) {
        self.insert.store(what as u8, Ordering::SeqCst);
    }

    pub fn on_read(&self, what: OnRead) {
        self.read.store(what as u8, Ordering::SeqCst);
    }

    pub fn on_free(&self, what: OnFree) {
        self.free.store(what as u8, Ordering::SeqCst);
    }

    pub fn on_exchange(&self, what: OnExchange) {
        self.exchange.store(what as u8, Ordering::SeqCst);
    }

    pub fn on_give_back(&self, what: OnGiveBack) {
        self.give_back.store(what as u8, Ordering::SeqCst);
    }

    pub fn panics_when_asked(&self, panics: bool) {
        self.asked_panics.store(panics, Ordering::SeqCst);
    }

    pub fn crowded_reads(&self, reads: usize) {
        self.crowded_reads.store(reads, Ordering::SeqCst);
    }

    pub fn crowded_reads_left(&self) -> usize {
        self.crowded_reads.load(Ordering::SeqCst)
    }

    pub fn unpin_panics(&self, unpins: usize) {
        self.unpin_panics.store(unpins, Ordering::SeqCst);
    }

    pub fn unpin_panics_left(&self) -> usize {
        self.unpin_panics.load(Ordering::SeqCst)
    }

    pub fn live(&self) -> isize {
        self.live.load(Ordering::SeqCst)
    }

    /// Counts down. Returns false if the count was 0.
    fn one_of(count: &AtomicUsize) -> bool {
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }

    fn giving_back(&self, panics: OnGiveBack) {
        if ON_GIVE_BACK[usize::from(self.give_back.load(Ordering::SeqCst))] == panics {
            self.gave_nothing_back.fetch_add(1, Ordering::SeqCst);
            panic!("an allocator that panics while it gives memory back");
        }
    }
}

/// Makes the allocator `scripted`, over another one.
#[derive(Debug)]
pub struct ScriptedDriver {
    pub inner: Arc<dyn ZPoolDriver>,
    pub script: Arc<PoolScript>,
}

impl ZPoolDriver for ScriptedDriver {
    fn name(&self) -> &str {
        "scripted"
    }

    fn canonical(&self, params: &Params) -> Result<Params, CreateError> {
        self.inner.canonical(params)
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        Ok(Box::new(ScriptedPool {
            inner: self.inner.create(config)?,
            script: self.script.clone(),
        }))
    }
}

#[derive(Debug)]
struct ScriptedPool {
    inner: Box<dyn ZPool>,
    script: Arc<PoolScript>,
}

impl Pins for ScriptedPool {
    fn unpin(&self, _: u64) {
        assert!(
            !PoolScript::one_of(&self.script.unpin_panics),
            "an allocator that panics in unpin"
        );
    }
}

impl ZPool for ScriptedPool {
    fn id(&self) -> PoolId {
        self.inner.id()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.estimates_compaction &= !self.script.no_estimates.load(Ordering::SeqCst);
        capabilities
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        match ON_INSERT[usize::from(self.script.insert.load(Ordering::SeqCst))] {
            OnInsert::Work => {}
            OnInsert::OutOfMemory => return Err(PoolError::OutOfMemory),
            OnInsert::Panic => panic!("an allocator that panics in insert"),
        }
        let handle = self.inner.insert(object)?;
        self.script.live.fetch_add(1, Ordering::SeqCst);
        Ok(handle)
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        if PoolScript::one_of(&self.script.crowded_reads) {
            return Err(PoolError::TooManyReaders);
        }
        let guard = self.inner.read(handle)?;
        if self.script.unpin_panics_left() > 0 {
            // A pin needs bytes that outlive it: these leak.
            return Ok(ReadGuard::pinned(Vec::leak(guard.to_vec()), self, 0));
        }
        match ON_READ[usize::from(self.script.read.load(Ordering::SeqCst))] {
            OnRead::Work => Ok(guard),
            OnRead::Flip => {
                let mut bytes = guard.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
                Ok(ReadGuard::shared(bytes.into()))
            }
            OnRead::Cut => Ok(ReadGuard::shared(guard[..guard.len() - 1].into())),
            OnRead::Fail => Err(PoolError::TooManyReaders),
            OnRead::Panic => panic!("an allocator that panics in read"),
        }
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        match ON_FREE[usize::from(self.script.free.load(Ordering::SeqCst))] {
            OnFree::Work => {}
            OnFree::Refuse => return Err(FreeError::new(PoolError::StaleHandle, handle)),
            OnFree::Panic => panic!("an allocator that panics in free"),
        }
        self.inner.free(handle)?;
        self.script.live.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn exchange(&self, handle: &Handle, other: &mut Handle) -> bool {
        let what = ON_EXCHANGE[usize::from(self.script.exchange.load(Ordering::SeqCst))];
        assert!(what != OnExchange::Panic, "an allocator that panics in exchange");
        let done = what != OnExchange::Decline && self.inner.exchange(handle, other);
        assert!(what != OnExchange::WorkAndPanic, "an allocator that panics after an exchange");
        self.script.exchanges.fetch_add(usize::from(done), Ordering::SeqCst);
        done
    }

    fn bytes_held(&self) -> usize {
        assert!(
            !self.script.asked_panics.load(Ordering::SeqCst),
            "an allocator that panics when asked"
        );
        self.inner.bytes_held()
    }

    fn stats(&self) -> PoolStats {
        self.inner.stats()
    }

    fn validate(&self) -> Result<(), Violation> {
        self.inner.validate()
    }

    fn compact(&self, budget: CompactionBudget) -> CompactionReport {
        self.script.giving_back(OnGiveBack::PanicInCompact);
        let mut report = self.inner.compact(budget);
        if self.script.no_estimates.load(Ordering::SeqCst) {
            report.estimated_bytes = 0;
        }
        report
    }

    fn trim(&self) -> usize {
        self.script.trims.fetch_add(1, Ordering::SeqCst);
        self.script.giving_back(OnGiveBack::PanicInTrim);
        self.inner.trim()
    }
}

impl Drop for ScriptedPool {
    fn drop(&mut self) {
        if self.inner.stats().objects > 0 {
            self.script.dropped_with_objects.fetch_add(1, Ordering::SeqCst);
        }
    }
}
