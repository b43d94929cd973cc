//! Backing stores for tests: one in memory, and one that fails when a test wants it to.
//!
//! ```text
//!   the code under test ──► FaultyBacking ──► MemoryBacking, or any other
//!                                ▲
//!   the test ── inject(call, when, fault), wait_until_stalled(n), release()
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use zpool_core::backing::{
    AlignedBytes, BackingCapabilities, BackingError, BackingStore, SegmentNumber,
};

use crate::random::TestRng;

/// Keeps segments in memory.
pub struct MemoryBacking {
    capabilities: BackingCapabilities,
    segments: Box<[RwLock<Option<Vec<u8>>>]>,
}

impl MemoryBacking {
    /// Makes an empty store with any capabilities.
    pub fn new(capabilities: BackingCapabilities) -> MemoryBacking {
        let segments = (0..capabilities.segments()).map(|_| RwLock::default()).collect();
        MemoryBacking { capabilities, segments }
    }

    /// Loses the contents of `segment`, as a remote medium may. Reads find it gone.
    pub fn lose(&self, segment: SegmentNumber) {
        *self.segment(segment).write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns how many bytes of `segment` were written, or `None` if it holds nothing.
    pub fn written(&self, segment: SegmentNumber) -> Option<usize> {
        let held = self.segment(segment).read().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(Vec::len)
    }

    /// Returns the number of segments that hold something.
    pub fn segments_held(&self) -> usize {
        (0..self.capabilities.segments())
            .filter(|n| self.written(SegmentNumber::new(*n)).is_some())
            .count()
    }

    fn segment(&self, segment: SegmentNumber) -> &RwLock<Option<Vec<u8>>> {
        self.capabilities.check_discard(segment);
        &self.segments[segment.get() as usize]
    }
}

impl BackingStore for MemoryBacking {
    fn capabilities(&self) -> BackingCapabilities {
        self.capabilities
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        self.capabilities.check_write(segment, bytes);
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes.len()).map_err(BackingError::failed)?;
        copy.extend_from_slice(bytes);
        *self.segment(segment).write().unwrap_or_else(PoisonError::into_inner) = Some(copy);
        Ok(())
    }

    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        self.capabilities.check_read(segment, offset, into);
        let held = self.segment(segment).read().unwrap_or_else(PoisonError::into_inner);
        let bytes = held.as_ref().ok_or(BackingError::Gone)?;
        let range = bytes
            .get(offset..offset + into.len())
            .ok_or_else(|| BackingError::failed("a read beyond what was written"))?;
        into.copy_from_slice(range);
        Ok(())
    }

    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
        self.lose(segment);
        Ok(())
    }
}

impl fmt::Debug for MemoryBacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryBacking({:?})", self.capabilities)
    }
}

/// A method of a backing store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackingCall {
    /// `write`.
    Write,
    /// `read`.
    Read,
    /// `discard`.
    Discard,
}

/// The calls of one method that meet a fault, counted from 0 when the fault is injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultyCalls {
    /// Those with a number in this range.
    Numbered(Range<u64>),
    /// Each `n`th, the first of them being number `n - 1`.
    EveryNth(u64),
}

/// The fault that a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackingFault {
    /// Fails, and changes nothing.
    Failed,
    /// Changes nothing. A write reports that there is no room; a read or discard fails.
    Full,
    /// Does the first half, and fails: a write returns `Full`, a read is short and leaves
    /// garbage in the rest, a discard is as [`Failed`](Self::Failed).
    Torn,
    /// Loses the segment. A read reports that, a write or discard does not.
    Gone,
    /// Flips one bit of what is written or read.
    FlippedBit,
    /// Waits until the test [releases](FaultyBacking::release) it, and goes on without a fault.
    Stalled,
    /// Panics.
    Panics,
}

/// Passes calls on to another backing store, and fails where the test wants it.
pub struct FaultyBacking {
    inner: Arc<dyn BackingStore>,
    state: Mutex<FaultState>,
    changed: Condvar,
}

struct FaultState {
    plans: [Option<(FaultyCalls, BackingFault)>; 3],
    calls: [u64; 3],
    since: [u64; 3],
    faults: u64,
    stalled: usize,
    releases: u64,
    random: TestRng,
}

impl FaultyBacking {
    /// Makes a store that passes everything on to `inner`, until a fault is injected.
    pub fn new(inner: Arc<dyn BackingStore>) -> FaultyBacking {
        let state = FaultState {
            plans: [const { None }; 3],
            calls: [0; 3],
            since: [0; 3],
            faults: 0,
            stalled: 0,
            releases: 0,
            random: TestRng::new(0xBAC),
        };
        FaultyBacking { inner, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Makes a faulty store over an empty [`MemoryBacking`] with these capabilities.
    pub fn in_memory(capabilities: BackingCapabilities) -> FaultyBacking {
        FaultyBacking::new(Arc::new(MemoryBacking::new(capabilities)))
    }

    /// Makes those calls of one method fail from now on, in place of what was injected before.
    pub fn inject(&self, call: BackingCall, when: FaultyCalls, fault: BackingFault) {
        let mut state = self.state();
        state.plans[call as usize] = Some((when, fault));
        state.since[call as usize] = state.calls[call as usize];
    }

    /// Lets all calls succeed from now on, and releases those that are stalled.
    pub fn clear_faults(&self) {
        self.state().plans = [const { None }; 3];
        self.release();
    }

    /// Returns how many calls of this method there were.
    pub fn calls(&self, call: BackingCall) -> u64 {
        self.state().calls[call as usize]
    }

    /// Returns how many calls met a fault.
    pub fn faults(&self) -> u64 {
        self.state().faults
    }

    /// Waits until `n` calls at least are stalled.
    pub fn wait_until_stalled(&self, n: usize) {
        let mut state = self.state();
        while state.stalled < n {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets all calls go on that are stalled now.
    pub fn release(&self) {
        self.state().releases += 1;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and returns its fault. Waits in it if that is the fault.
    fn begin(&self, call: BackingCall) -> Option<BackingFault> {
        let mut state = self.state();
        let number = state.calls[call as usize] - state.since[call as usize];
        state.calls[call as usize] += 1;
        let (when, fault) = state.plans[call as usize].clone()?;
        let meets = match when {
            FaultyCalls::Numbered(range) => range.contains(&number),
            FaultyCalls::EveryNth(n) => (number + 1).is_multiple_of(n),
        };
        if !meets {
            return None;
        }
        state.faults += 1;
        if fault != BackingFault::Stalled {
            return Some(fault);
        }
        let releases = state.releases;
        state.stalled += 1;
        self.changed.notify_all();
        while state.releases == releases {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.stalled -= 1;
        None
    }

    fn flip_a_bit(&self, bytes: &mut [u8]) {
        let bit = self.state().random.below(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }

    /// Returns half of `len`, a multiple of the alignment.
    fn half(&self, len: usize) -> usize {
        let alignment = self.inner.capabilities().alignment();
        len / 2 / alignment * alignment
    }

    fn write_torn(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        let half = self.half(bytes.len());
        if half > 0 {
            self.inner.write(segment, &bytes[..half])?;
        }
        Err(BackingError::Full)
    }

    fn write_flipped(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        let mut copy = AlignedBytes::zeroed(bytes.len(), self.inner.capabilities().alignment())?;
        copy.copy_from_slice(bytes);
        self.flip_a_bit(&mut copy);
        self.inner.write(segment, &copy)
    }

    fn read_torn(&self, segment: SegmentNumber, offset: usize, into: &mut [u8]) -> BackingError {
        let half = self.half(into.len());
        if half > 0 && self.inner.capabilities().partial_reads() {
            // What the first half holds after an error makes no difference.
            let _ = self.inner.read(segment, offset, &mut into[..half]);
        }
        into[half..].fill(0xA5);
        failed("a short read")
    }
}

/// Makes the error of an injected fault.
fn failed(what: &'static str) -> BackingError {
    BackingError::failed(format!("injected fault: {what}"))
}

impl BackingStore for FaultyBacking {
    fn capabilities(&self) -> BackingCapabilities {
        self.inner.capabilities()
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        self.capabilities().check_write(segment, bytes);
        match self.begin(BackingCall::Write) {
            None | Some(BackingFault::Stalled) => self.inner.write(segment, bytes),
            Some(BackingFault::Failed) => Err(failed("a write that fails")),
            Some(BackingFault::Full) => Err(BackingError::Full),
            Some(BackingFault::Torn) => self.write_torn(segment, bytes),
            Some(BackingFault::Gone) => self.inner.discard(segment),
            Some(BackingFault::FlippedBit) => self.write_flipped(segment, bytes),
            Some(BackingFault::Panics) => panic!("injected fault: a write that panics"),
        }
    }

    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        self.capabilities().check_read(segment, offset, into);
        match self.begin(BackingCall::Read) {
            None | Some(BackingFault::Stalled) => self.inner.read(segment, offset, into),
            Some(BackingFault::Failed | BackingFault::Full) => Err(failed("a read that fails")),
            Some(BackingFault::Torn) => Err(self.read_torn(segment, offset, into)),
            Some(BackingFault::Gone) => {
                self.inner.discard(segment)?;
                Err(BackingError::Gone)
            }
            Some(BackingFault::FlippedBit) => {
                self.inner.read(segment, offset, into)?;
                self.flip_a_bit(into);
                Ok(())
            }
            Some(BackingFault::Panics) => panic!("injected fault: a read that panics"),
        }
    }

    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
        self.capabilities().check_discard(segment);
        match self.begin(BackingCall::Discard) {
            None | Some(BackingFault::Stalled | BackingFault::Gone | BackingFault::FlippedBit) => {
                self.inner.discard(segment)
            }
            Some(BackingFault::Failed | BackingFault::Full | BackingFault::Torn) => {
                Err(failed("a discard that fails"))
            }
            Some(BackingFault::Panics) => panic!("injected fault: a discard that panics"),
        }
    }
}

impl fmt::Debug for FaultyBacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyBacking({:?})", self.inner)
    }
}
