//! Writing cold blocks to the tier: one segment, in a storing thread at the limit or in a job.
//!
//! ```text
//!   room       if the tier is full: compact segments, or choose the one that leaves
//!   carry      records of a leaving segment that are written again
//!   stage      under a shard's lock: the clock's hand: cold? pin ─► unlock ─► copy it
//!   write      one call of the backing store, under no lock; if it fails, nothing has changed
//!   exchange   under its shard's lock: each entry that is still the one seen, for its record
//!              ─► unlock ─► unpin ─► free the object
//!   drop       the segment whose records were carried, and whose others are evicted
//! ```
//!
//! Until the write has succeeded every block is in memory, so there is no gap, and an older block
//! never replaces a newer one (B21). A slot is kept free for the next write, so nothing is ever
//! overwritten to which an entry refers.
//!
//! - Same-filled blocks stay in memory: they are in the index alone.
//! - Raw blocks go as others do.
//! - Values of several blocks stay in memory. A store that evicts takes those that are cold.

pub(crate) mod background;
mod batch;
mod carry;
mod compact;
mod readmission;
mod stage;

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use zpool_core::internal::catch;
use zpool_core::might_block;

use self::batch::{BatchCodecs, StagedBlocks};
use self::carry::Leaving;
use crate::backing::writer::{Borrowed, StagedSegment, TierWriter};
use crate::backing::{Tier, TierPolicy};
use crate::limit::eviction_scope::EvictionScope;
use crate::store::Store;
use crate::value::source_pools::SourcePools;
use crate::value::tier_place::TierPlace;

/// How long a storing thread waits for another one that writes.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(2);

/// Outcome of an attempt to write a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writeback {
    /// Entries that cost this many bytes have left memory.
    Freed(usize),
    /// Another thread wrote, and this one has waited for it. There may be room now.
    Waited,
    /// Another thread writes, and this one does not wait, or waited too long.
    Busy,
    /// There is nothing to write, no room in the tier, or the write failed.
    Nothing,
}

/// The parts of the batch that is being written.
struct WritebackBatch<'b, 'p> {
    tier: &'b Tier,
    staged: StagedSegment<'b>,
    sources: &'p SourcePools,
    codecs: BatchCodecs<'b>,
    blocks: StagedBlocks<'b, 'p>,
    /// Hashes of the keys that earlier turns of the hand have staged, which later ones meet again.
    /// In order.
    earlier: ArenaVec<'b, u64>,
    /// The segment that makes room for this one.
    leaving: Option<Leaving<'b>>,
    /// Bytes that entries cost which have left memory.
    freed: usize,
}

impl WritebackBatch<'_, '_> {
    /// Notes that the hand begins another turn.
    fn note_turn(&mut self) {
        self.earlier.clear();
        self.earlier.extend(self.blocks.iter().map(|block| block.hash));
        self.earlier.sort_unstable();
    }
}

/// # The tier below memory
impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Writes one segment of cold blocks to the [tier](crate::StoreBuilder::tier) now. Returns
    /// roughly the bytes that have left memory.
    ///
    /// 1 means that another thread has written a segment instead. 0 means that nothing was written,
    /// for one of these reasons:
    ///
    /// - there is nothing to write;
    /// - there is no tier, no room in it, or it is off;
    /// - the write failed;
    /// - another thread wrote for more than 2 s;
    /// - the call comes from an eviction listener;
    /// - another thread writes, and this one is in a [`NoBlock`](crate::plugin::NoBlock) section.
    ///
    /// A store at its limit does this by itself. This call is for programs that know a good moment,
    /// such as before they sleep. Blocks that were loaded since the eviction clock's hand last
    /// passed them stay in memory, and cool.
    ///
    /// ```
    /// # #[cfg(all(unix, feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use std::sync::Arc;
    /// use zswap::tier::FileTier;
    /// use zswap::{AtLimit, Store};
    ///
    /// let file = FileTier::builder(std::env::temp_dir(), 16 << 20).segment_bytes(256 << 10);
    /// let store = Store::builder()
    ///     .limit_bytes(64 << 20)
    ///     .at_limit(AtLimit::Evict)
    ///     .tier(Arc::new(file.build()?))
    ///     .build()?;
    /// for key in 0..500 {
    ///     store.store(key, page(key))?;
    /// }
    /// assert!(store.write_back() > 0);
    /// assert!(store.stats().tier.unwrap().backed > 0);
    /// assert_eq!(store.load_vec(&7)?, Some(page(7).into_bytes()));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Concurrency
    ///
    /// May block. Any number of threads may use the store meanwhile. If another thread writes,
    /// waits up to 2 s for it, and writes nothing itself.
    pub fn write_back(&self) -> usize {
        let Some(_scope) = EvictionScope::enter(self.eviction()) else { return 0 };
        match self.write_segment(MAX_WAIT) {
            Writeback::Freed(freed) => freed,
            Writeback::Waited => 1,
            Writeback::Busy | Writeback::Nothing => 0,
        }
    }

    /// Returns whether a full store makes room, instead of refusing at once.
    #[inline]
    pub(crate) fn relieves_memory(&self) -> bool {
        self.eviction().evicts() || self.writes_back()
    }

    /// Writes one segment of cold blocks, and drops or compacts another one if the tier is full.
    pub(crate) fn write_segment(&self, max_wait: Duration) -> Writeback {
        let Some(tier) = self.index().tier().filter(|tier| tier.is_on()) else {
            return Writeback::Nothing;
        };
        might_block("writing to the tier");
        let mut writer = match tier.borrow_writer(max_wait) {
            Borrowed::AtOnce(writer) => writer,
            Borrowed::Waited => return Writeback::Waited,
            Borrowed::No => return Writeback::Busy,
        };
        tier.codecs.drop_unused();
        if writer.order.free() <= 1 {
            tier.discard_dead(&mut writer);
        }
        let is_full = writer.order.free() <= 1;
        let written = match tier.policy() {
            TierPolicy::Refuse if is_full && !self.compact_tier(tier, &mut writer) => {
                Writeback::Nothing
            }
            policy => {
                let drops = is_full && policy == TierPolicy::DropOldest;
                self.write_with(tier, &mut writer, drops)
            }
        };
        tier.codecs.drop_unused();
        written
    }

    /// Writes a segment. `drops`: the oldest one makes room for it.
    fn write_with(&self, tier: &Tier, writer: &mut TierWriter, drops: bool) -> Writeback {
        let Some(number) = writer.order.next_free() else { return Writeback::Nothing };
        let TierWriter { order, buffer, read_buffer, arena } = writer;
        let arena: &Bump = arena;
        let (id, unit) = (tier.segments.id(number), tier.segments.unit());
        let leaving = order.oldest().filter(|_| drops);
        let leaving =
            leaving.map(|number| Leaving::new_in(arena, number, tier.segments.id(number)));
        let sources = SourcePools::default();
        let mut batch = WritebackBatch {
            tier,
            staged: StagedSegment::new(buffer, id, unit, tier.capabilities()),
            sources: &sources,
            codecs: BatchCodecs::new(tier),
            blocks: StagedBlocks::new_in(arena),
            earlier: ArenaVec::new_in(arena),
            leaving,
            freed: 0,
        };
        self.carry_loaded(&mut batch, read_buffer);
        self.stage_cold(&mut batch);
        let WritebackBatch { staged, blocks, leaving, codecs, mut freed, .. } = batch;
        let is_useless =
            blocks.is_empty() && leaving.as_ref().is_none_or(|it| it.carried.is_empty());
        if is_useless {
            // Only clean copies, or nothing.
            return if freed > 0 { Writeback::Freed(freed) } else { Writeback::Nothing };
        }
        let (records, longest) = (staged.records(), staged.longest());
        let carried = leaving.iter().flat_map(Leaving::carried_items);
        let items = blocks.iter().map(|block| block.directory_item());
        let bytes = staged.finish(carried.chain(items));
        tier.segments.set_written(id, bytes.len(), records, longest);
        if !tier.write(number, bytes) {
            return if freed > 0 { Writeback::Freed(freed) } else { Writeback::Nothing };
        }
        order.mark_written();
        freed += self.exchange_blocks(tier, blocks);
        drop(codecs);
        for pool in sources.iter() {
            catch(|| pool.zpool().trim());
        }
        if let Some(leaving) = leaving {
            self.exchange_carried(tier, &leaving);
            self.evict_rest(tier, &leaving);
            tier.retire_segment(order, leaving.number);
        }
        if self.limit().above_low_watermark() {
            self.limit().note_removed();
        }
        Writeback::Freed(freed.max(1))
    }

    /// Exchanges the blocks of a segment that was written for their records. Returns what those
    /// cost that were still the same.
    fn exchange_blocks(&self, tier: &Tier, blocks: StagedBlocks<'_, '_>) -> usize {
        let mut freed = 0;
        for mut block in blocks {
            let place = TierPlace::pack(block.place);
            let old = self.index().exchange_for_record(block.hash, block.seen, place);
            // Before the object is freed: an allocator may wait for readers (B20).
            self.unpin(&mut block.object);
            match old {
                Some(old) => {
                    freed += self.memory_cost(&old);
                    tier.counters.put.add(1);
                    tier.counters.bytes_put.add(block.place.object_len as u64);
                    self.free(old);
                }
                None => tier.counters.changed.add(1),
            }
        }
        freed
    }
}

impl<K, S> Store<K, S> {
    /// Returns whether there is a tier that takes blocks.
    #[inline]
    pub(crate) fn writes_back(&self) -> bool {
        self.index().tier().is_some_and(|tier| tier.is_on())
    }
}
