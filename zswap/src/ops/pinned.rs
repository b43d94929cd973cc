//! Borrowing a value from the index: shared by load, peek, take, export and the blocks of long
//! values.
//!
//! ```text
//!   under the shard's lock                  without any lock
//!   find ─► reference the pool, pin ─► [too many readers: wait, again] ─► use ─► unpin
//! ```
//!
//! A block in the tier is read without any lock: see `backed`.
//!
//! The guard keeps the object's bytes even if the entry is replaced or removed. The reference keeps
//! the pool.

use std::hash::{BuildHasher, Hash};

use zpool_core::PoolError;
use zpool_core::internal::{TryArc, prefetch};
use zpool_manager::PoolRef;

use crate::backing::read::ReadBuffer;
use crate::index::equivalent::Equivalent;
use crate::index::shard::{Shard, ValueRef};
use crate::index::table::BucketId;
use crate::ops::backed::{BackedRead, BackedRecord};
use crate::store::Store;
use crate::value::access::Access;
use crate::value::backoff::{Backoff, is_too_many_readers};
use crate::value::error::Error;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::{PinnedObject, pin};
use crate::value::{LargeValue, Value, ValueId};

/// Cache lines of an object that are prefetched before the decoder reads one after the other.
const LINES: usize = 8;

/// A value that stays readable while it is borrowed.
pub(crate) enum PinnedValue<'p, 'o> {
    SameFilled {
        word: u64,
        len: usize,
    },
    /// Borrows the guard: a move would read with wide loads what narrow stores have just written,
    /// which defeats store forwarding. The bench `overhead` shows it.
    Pooled {
        pool: &'p PoolRef,
        object: &'p mut PinnedObject<'o>,
        meta: ObjectMeta,
    },
    Large(TryArc<LargeValue>),
    /// Read from the tier, and checked.
    Backed(&'p BackedRecord<'p>),
}

impl PinnedValue<'_, '_> {
    /// Returns the length of the block or value in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            PinnedValue::SameFilled { len, .. } => *len,
            PinnedValue::Pooled { meta, .. } => meta.block_len,
            PinnedValue::Large(large) => large.len,
            PinnedValue::Backed(record) => record.meta.block_len,
        }
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Lends what is stored under `key` to `use_value`, with no lock held. Returns `None` if there
    /// is nothing.
    ///
    /// A take also receives the value's id, which is unique as long as the value is pinned. If the
    /// allocator cannot count one more reader, waits for other readers to finish.
    #[inline(always)]
    pub(crate) fn with_pinned<Q, R, F>(
        &self,
        hash: u64,
        key: &Q,
        access: Access,
        backoff: &mut Backoff,
        use_value: F,
    ) -> Result<Option<R>, Error>
    where
        Q: Equivalent<K> + ?Sized,
        F: FnOnce(PinnedValue<'_, '_>, Option<ValueId>, &mut Backoff) -> Result<R, Error>,
    {
        self.with_pinned_if(hash, key, access, backoff, |_, _| true, use_value)
    }

    /// Lends a value if `admit`, which runs under the shard's lock, accepts its entry. Otherwise
    /// returns `None`.
    #[inline(always)]
    pub(crate) fn with_pinned_if<Q, R, A, F>(
        &self,
        hash: u64,
        key: &Q,
        access: Access,
        backoff: &mut Backoff,
        mut admit: A,
        use_value: F,
    ) -> Result<Option<R>, Error>
    where
        Q: Equivalent<K> + ?Sized,
        A: FnMut(&Shard<K>, BucketId) -> bool,
        F: FnOnce(PinnedValue<'_, '_>, Option<ValueId>, &mut Backoff) -> Result<R, Error>,
    {
        self.note_lookup_in_thrash_meter(hash, access);
        loop {
            let (mut shard, table_hash) = self.index().lock(hash);
            let is_sequential = shard.is_sequential(table_hash);
            let Some(found) = shard.look_up(table_hash, key, access, &mut admit) else {
                return Ok(None);
            };
            let id = matches!(access, Access::Take | Access::Examine).then(|| found.id());
            match found {
                ValueRef::Pooled { handle, pool, meta } => {
                    let pool = pool.clone();
                    let mut pinned = pin(&pool, handle);
                    match &pinned {
                        Ok(object) => prefetch(object, LINES),
                        Err(error) if is_too_many_readers(error) => {
                            // The look-up is repeated, and counted, after readers have finished.
                            shard.stats.uncount_hit(access);
                            drop(shard);
                            self.wait_for_readers(hash, access, backoff)?;
                            continue;
                        }
                        Err(_) => {}
                    }
                    drop(shard);
                    if is_sequential {
                        self.index().prefetch_next_group(hash);
                    }
                    let use_value = |value: PinnedValue<'_, '_>| use_value(value, id, backoff);
                    return self.use_pooled(&pool, &mut pinned, meta, use_value).map(Some);
                }
                ValueRef::SameFilled { word, len } => {
                    drop(shard);
                    let value = PinnedValue::SameFilled { word, len };
                    return use_value(value, id, backoff).map(Some);
                }
                ValueRef::Large(large) => {
                    let large = TryArc::clone(large);
                    drop(shard);
                    return use_value(PinnedValue::Large(large), id, backoff).map(Some);
                }
                ValueRef::Backed(place) => {
                    let found = self.note_backed(&mut shard, table_hash, place, access)?;
                    drop(shard);
                    let mut buffer = ReadBuffer::take();
                    let record = match self.read_backed(hash, access, &found, &mut buffer)? {
                        BackedRead::Record(record) => record,
                        BackedRead::Lost => return Ok(None),
                        BackedRead::Changed => continue,
                    };
                    let use_value = |value: PinnedValue<'_, '_>| use_value(value, id, backoff);
                    return self.use_record(hash, &record, found.is_hot, use_value).map(Some);
                }
            }
        }
    }

    /// Notes in the thrash meter that a key is looked up, unless that is a peek.
    #[inline(always)]
    fn note_lookup_in_thrash_meter(&self, hash: u64, access: Access) {
        if matches!(access, Access::Load | Access::LoadResident | Access::Take)
            && let Some(meter) = self.index().meter()
        {
            meter.note_lookup(hash);
        }
    }

    /// Lends a record to `use_value`, and returns its block to memory if it is hot.
    #[inline]
    fn use_record<R>(
        &self,
        hash: u64,
        record: &BackedRecord<'_>,
        is_hot: bool,
        use_value: impl FnOnce(PinnedValue<'_, '_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let result = use_value(PinnedValue::Backed(record));
        if result.is_ok() && is_hot {
            self.readmit(hash, record);
        }
        result
    }

    /// Waits for readers of a block that a look-up found but could not pin.
    ///
    /// # Errors
    ///
    /// [`PoolError::TooManyReaders`] after the longest wait. The look-up is counted then.
    #[cold]
    fn wait_for_readers(
        &self,
        hash: u64,
        access: Access,
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        if backoff.wait() {
            return Ok(());
        }
        self.index().lock(hash).0.stats.count_hit(access);
        Err(Error::Pool(PoolError::TooManyReaders))
    }
}

impl<K, S> Store<K, S> {
    /// Lends a part of a long value to `use_value`, as [`with_pinned`](Self::with_pinned) does.
    pub(crate) fn with_pinned_part<R>(
        &self,
        part: &Value,
        backoff: &mut Backoff,
        use_value: impl FnOnce(PinnedValue<'_, '_>, &mut Backoff) -> Result<R, Error>,
    ) -> Result<R, Error> {
        match part {
            Value::SameFilled { word, len } => {
                use_value(PinnedValue::SameFilled { word: *word, len: *len }, backoff)
            }
            Value::Pooled(block) => {
                let pool = block.object.pool();
                let mut pinned = backoff.retry(|| pin(pool, block.object.handle()));
                self.use_pooled(pool, &mut pinned, block.meta, |value| use_value(value, backoff))
            }
            Value::Large(large) => use_value(PinnedValue::Large(TryArc::clone(large)), backoff),
            Value::Backed(_) => unreachable!("the blocks of a long value stay in memory"),
        }
    }

    /// Lends a pinned object to `use_value`, and unpins it. Returns the error if it is not pinned.
    #[inline(always)]
    fn use_pooled<'o, R>(
        &self,
        pool: &PoolRef,
        pinned: &mut Result<PinnedObject<'o>, Error>,
        meta: ObjectMeta,
        use_value: impl FnOnce(PinnedValue<'_, 'o>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let object = match pinned {
            Ok(object) => object,
            Err(error) => return Err(error.clone()),
        };
        let result = use_value(PinnedValue::Pooled { pool, object: &mut *object, meta });
        self.unpin(object);
        result
    }

    /// Unpins an object. A panic of the allocator is counted; the bytes that were read are valid.
    #[inline]
    pub(crate) fn unpin(&self, object: &mut PinnedObject<'_>) {
        if !object.unpin() {
            self.counters().unpin_panicked();
        }
    }
}
