//! The shared part of the cases: a pool over its own page source, objects with reproducible
//! contents, and the equations of the accounting.

use std::sync::Arc;

use zpool_core::page::{FaultPlan, FaultySource, HeapSource, PageSource};
use zpool_core::{CheckPolicy, Handle, PoolError, ReadGuard, ZPool, set_check_policy};

use super::PoolMaker;
use crate::rng::SplitMix;

/// Creates a source with the system's frame size.
pub(crate) fn fresh_source() -> Arc<dyn PageSource> {
    // Frames returned to the system read as zero, so a later use is detected. The heap would keep
    // their contents.
    #[cfg(all(unix, not(miri)))]
    return Arc::new(zpool_core::page::MmapSource::new());
    #[cfg(any(not(unix), miri))]
    return Arc::new(HeapSource::new(4096));
}

/// Creates a source with frames of 16 KiB.
pub(crate) fn source_of_16_kib() -> Arc<dyn PageSource> {
    Arc::new(HeapSource::new(16 << 10))
}

/// Random bytes repeat after this prime, so that no copy of them lies at the same place in two
/// chunks, slots or frames.
const PERIOD: usize = 1021;

/// Makes `len` bytes that are unique to `fill`, as far as `len` allows.
pub(crate) fn contents(fill: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    bytes.resize(len.min(PERIOD), 0);
    SplitMix::new(fill).fill(&mut bytes);
    while bytes.len() < len {
        bytes.extend_from_within(..PERIOD.min(len - bytes.len()));
    }
    bytes
}

/// A stored object with its expected contents.
#[derive(Debug)]
pub(crate) struct StoredObject {
    pub(crate) handle: Handle,
    pub(crate) fill: u64,
    pub(crate) len: usize,
}

/// A pool under test, with a source of its own.
pub(crate) struct PoolHarness<'m> {
    pub(crate) pool: Box<dyn ZPool>,
    pub(crate) source: Arc<FaultySource>,
    maker: &'m PoolMaker,
}

impl<'m> PoolHarness<'m> {
    pub(crate) fn new(maker: &'m PoolMaker) -> PoolHarness<'m> {
        PoolHarness::over(maker, fresh_source())
    }

    pub(crate) fn over(maker: &'m PoolMaker, source: Arc<dyn PageSource>) -> PoolHarness<'m> {
        let source = Arc::new(FaultySource::new(source, FaultPlan::Never));
        PoolHarness::of(maker, maker.make(source.clone()), source)
    }

    /// Wraps a pool over this source.
    pub(crate) fn of(
        maker: &'m PoolMaker,
        pool: Box<dyn ZPool>,
        source: Arc<FaultySource>,
    ) -> PoolHarness<'m> {
        // For the whole process and for good, because cases run in parallel, and a section concerns
        // only its thread.
        set_check_policy(CheckPolicy::Panic);
        PoolHarness { pool, source, maker }
    }

    pub(crate) fn max(&self) -> usize {
        self.pool.capabilities().max_object_len
    }

    /// Returns a length for the next object of a workload: small, medium or large, up to the
    /// maximum.
    pub(crate) fn len(&self, rng: &mut SplitMix) -> usize {
        let max = self.max();
        match rng.below(8) {
            0 => rng.between(1, 64.min(max)),
            1 => rng.between(1, max),
            2 => max - rng.below(max.min(3)),
            _ => rng.between(1, (max / 2).max(1)),
        }
    }

    pub(crate) fn try_put(&self, fill: u64, len: usize) -> Result<StoredObject, PoolError> {
        Ok(StoredObject { handle: self.pool.insert(&contents(fill, len))?, fill, len })
    }

    pub(crate) fn put(&self, fill: u64, len: usize) -> StoredObject {
        self.try_put(fill, len)
            .unwrap_or_else(|e| panic!("insert of {len} bytes with memory at hand: {e}"))
    }

    pub(crate) fn guard(&self, object: &StoredObject) -> ReadGuard<'_> {
        self.pool
            .read(&object.handle)
            .unwrap_or_else(|e| panic!("read of a live object, {object:?}: {e}"))
    }

    pub(crate) fn check(&self, object: &StoredObject) {
        assert_contents(&self.guard(object), object.fill, object.len);
    }

    pub(crate) fn check_all(&self, objects: &[StoredObject]) {
        for object in objects {
            self.check(object);
        }
    }

    /// Compares an object's contents and frees it.
    pub(crate) fn free_checked(&self, object: StoredObject) {
        self.check(&object);
        self.pool.free(object.handle).unwrap_or_else(|e| panic!("{e}"));
    }

    pub(crate) fn free_all_checked(&self, objects: impl IntoIterator<Item = StoredObject>) {
        for object in objects {
            self.free_checked(object);
        }
    }

    /// Checks every equation of the accounting of a pool that holds exactly `objects`, while no
    /// other thread uses it.
    pub(crate) fn balance(&self, objects: &[StoredObject]) {
        self.balance_with_zombies(objects, 0, 0);
    }

    /// Checks the equations with objects that were freed under guards.
    pub(crate) fn balance_with_zombies(
        &self,
        objects: &[StoredObject],
        zombies: usize,
        zombie_bytes: usize,
    ) {
        let copies = zombies > 0 && self.maker.copies();
        let (zombies, zombie_bytes) = if copies { (0, 0) } else { (zombies, zombie_bytes) };
        let payload = objects.iter().map(|o| o.len).sum::<usize>() + zombie_bytes;
        assert_accounting(&*self.pool, &self.source, objects.len(), zombies, payload);
    }

    /// Ends a case: what is left is whole and accounted for, can be freed, and leaves nothing
    /// behind.
    pub(crate) fn finish(&self, left: Vec<StoredObject>) {
        self.check_all(&left);
        self.balance(&left);
        self.free_all_checked(left);
        self.assert_releases_all_frames();
    }

    /// Checks that the pool is empty and releases all frames in a trim.
    pub(crate) fn assert_releases_all_frames(&self) {
        self.balance(&[]);
        self.pool.trim();
        self.balance(&[]);
        assert_eq!(
            self.source.charged_frames(),
            0,
            "T1: frames charged to an empty pool after trim"
        );
    }
}

/// Compares the bytes of a guard with those that were inserted.
#[track_caller]
pub(crate) fn assert_contents(bytes: &[u8], fill: u64, len: usize) {
    let expected = contents(fill, len);
    if bytes == expected {
        return;
    }
    assert_eq!(bytes.len(), len, "R1: length of the object of {len} bytes with fill {fill}");
    let at = bytes.iter().zip(&expected).position(|(a, b)| a != b).expect("they differ");
    panic!(
        "R1: the object of {len} bytes with fill {fill} differs at byte {at}: \
         {:02x?}, inserted {:02x?}",
        &bytes[at..len.min(at + 8)],
        &expected[at..len.min(at + 8)]
    );
}

/// Checks A1, A2, S1 and V1, while no other thread uses the pool.
#[track_caller]
pub(crate) fn assert_accounting(
    pool: &dyn ZPool,
    source: &FaultySource,
    objects: usize,
    zombies: usize,
    payload: usize,
) {
    if let Err(violation) = pool.validate() {
        panic!("V1: {violation}");
    }
    let stats = pool.stats();
    assert_eq!(pool.survey(), stats, "S3: a survey, and the counters");
    assert_eq!(stats.objects, objects, "S1: objects, in {stats:?}");
    assert_eq!(stats.zombies, zombies, "S1: zombies, in {stats:?}");
    assert_eq!(stats.payload_bytes, payload, "S1: payload of objects and zombies, in {stats:?}");
    assert_eq!(
        pool.bytes_held(),
        stats.pool_bytes(),
        "A1: bytes held and the sum of the parts, in {stats:?}"
    );
    let (resident, charged) = (stats.resident_frames, source.charged_frames());
    assert_eq!(resident, charged, "A2: resident frames and frames charged, in {stats:?}");
    let on_frames = stats.pool_bytes() - stats.metadata_bytes;
    // A pool that never calls its source keeps its objects on the heap and has no frames to compare
    // with.
    if source.calls() > 0 || charged > 0 {
        assert_eq!(
            on_frames,
            source.charged_bytes(),
            "A2: parts on frames and bytes charged, in {stats:?}"
        );
    }
    if !stats.groups.is_empty() {
        let sum: usize = stats.groups.iter().map(|g| g.objects).sum();
        assert_eq!(sum, objects + zombies, "S1: objects of all groups, in {stats:?}");
        let sum: usize = stats.groups.iter().map(|g| g.resident_frames).sum();
        assert_eq!(sum, resident, "S1: resident frames of all groups, in {stats:?}");
    }
}
