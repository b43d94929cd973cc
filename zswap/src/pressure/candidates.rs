//! Eviction with a listener that decides: it is shown each entry before anything is freed.
//!
//! ```text
//!   under the shard's lock        without any lock            under the shard's lock
//!   the hand: cold? clone the ─►  lend the blocks to the  ─►  `Evict`, and still the value that
//!   key, pin the object           listener                    was seen? take it out : leave it
//!                                                             unlock ─► unpin ─► free
//! ```
//!
//! The pin is held until the entry is taken out. Without it, the allocator may give the identity
//! that was seen to a newer object, which would be evicted without having been shown.
//!
//! An entry that cannot be shown is kept: its object has too many readers, or does not come back
//! from its pool, or there is no memory for the list of a long value's blocks.

use std::hash::{BuildHasher, Hash};

use zpool_core::compress::{Codec, CodecError};
use zpool_core::internal::{TryArc, catch};
use zpool_manager::PoolRef;

use crate::index::Index;
use crate::index::clock::{Coldest, EvictionAdvice};
use crate::index::shard::{CandidateFate, Item, Shard, ValueRef};
use crate::index::table::BucketId;
use crate::index::tiered::OnCold;
use crate::limit::decision::{DecidingListener, EvictionDecision, ShownKey};
use crate::pressure::writeback::MAX_WAIT;
use crate::store::Store;
use crate::value::backoff::Backoff;
use crate::value::encoded_block::EncodedBlock;
use crate::value::error::Error;
use crate::value::eviction_candidate::EvictionCandidate;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::{PinnedObject, pin};
use crate::value::source_pools::SourcePools;
use crate::value::{LargeValue, Value, ValueId};

/// Turns of the hand in which it finds every entry cold that is not used meanwhile. A kept entry is
/// cold again only after as many, so a search shows each entry once.
const TURNS: usize = 4;

/// In a store that spares what compresses well, such entries cool at every second turn.
const SPARING_TURNS: usize = 8;

/// Results of searches for an entry that may go.
#[derive(Debug)]
pub(crate) struct Consultation {
    /// Entries that the listener kept, or that could not be shown to it.
    pub(crate) kept: usize,
    /// At this many of them a search ends. `None`: it asks until an entry may go, and waits for
    /// those that other threads show.
    most_kept: Option<usize>,
    /// Cost in bytes of entries that another call removed while they were shown, such as a call of
    /// the listener. They make room too.
    pub(crate) gone: usize,
}

impl Consultation {
    /// Begins one that asks until an entry may go, and waits for what other threads show.
    pub(crate) fn thorough() -> Consultation {
        Consultation { kept: 0, most_kept: None, gone: 0 }
    }

    /// Begins one that waits for no other thread, and ends when the listener has kept `most_kept`
    /// entries.
    pub(crate) fn up_to(most_kept: usize) -> Consultation {
        Consultation { kept: 0, most_kept: Some(most_kept), gone: 0 }
    }
}

/// An entry that the hand has chosen, to be shown to the listener.
struct ChosenCandidate<'p, K> {
    key: K,
    hash: u64,
    /// The identity of the value, unique as long as `value` lives.
    seen: ValueId,
    value: CandidateValue<'p>,
    /// Keeps other threads from showing the key.
    shown: ShownKey<'p>,
}

/// A value that stays readable while it is shown.
enum CandidateValue<'p> {
    SameFilled { word: u64, len: usize },
    Pooled { pool: &'p PoolRef, object: PinnedObject<'p>, meta: ObjectMeta },
    Large(TryArc<LargeValue>),
}

impl CandidateValue<'_> {
    fn object_len(&self) -> usize {
        match self {
            CandidateValue::SameFilled { .. } => 0,
            CandidateValue::Pooled { meta, .. } => meta.object_len,
            CandidateValue::Large(large) => large.object_len(),
        }
    }
}

/// Result of a step of the hand.
struct CandidateChoice<'p, K> {
    candidate: Option<ChosenCandidate<'p, K>>,
    /// It passed an entry whose key another thread shows.
    passed_shown: bool,
    /// Entries that it passed because they could not be pinned.
    unreadable: usize,
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Takes the first cold entry out of the index that `listener` lets go, or that the advice
    /// calls worthless. Returns `None` if there is none.
    pub(super) fn take_consenting(
        &self,
        listener: &DecidingListener<K>,
        consultation: &mut Consultation,
    ) -> Option<Item<K>> {
        let turns = if self.eviction().keep_compressible { SPARING_TURNS } else { TURNS };
        let (mut ends, mut passed_shown, mut has_waited) = (0, false, false);
        loop {
            let sources = SourcePools::default();
            let mut choice =
                CandidateChoice { candidate: None, passed_shown: false, unreadable: 0 };
            let (coldest, _) = self.index().step_hand(|shard| {
                shard.advance_hand(
                    self.eviction().keep_compressible,
                    |key| self.eviction().advise(key),
                    |shard, at, advice| {
                        self.choose_candidate(listener, &sources, &mut choice, shard, at, advice)
                    },
                )
            });
            match coldest {
                Coldest::Taken(item) => return Some(item),
                Coldest::End | Coldest::Empty => ends += 1,
                Coldest::Warm | Coldest::Pinned => {}
            }
            passed_shown |= choice.passed_shown;
            consultation.kept += choice.unreadable;
            (0..choice.unreadable).for_each(|_| self.counters().eviction_kept());
            if let Some(candidate) = choice.candidate {
                let cost = Index::<K>::entry_bytes() + candidate.value.object_len();
                match self.consult(listener, candidate) {
                    CandidateFate::Evicted(item) => return Some(item),
                    CandidateFate::Kept => consultation.kept += 1,
                    CandidateFate::Changed => {}
                    CandidateFate::Gone => {
                        consultation.gone += cost;
                        return None;
                    }
                }
            }
            if consultation.most_kept.is_some_and(|most| consultation.kept >= most) {
                return None;
            }
            // The first shard twice: the hand may have been in its middle.
            if ends > turns * self.index().shards() {
                // What other threads show may be all that is left.
                let may_wait = passed_shown && !has_waited && consultation.most_kept.is_none();
                if !may_wait || !listener.shown.wait_for_end(MAX_WAIT) {
                    return None;
                }
                (ends, has_waited) = (0, true);
            }
        }
    }

    /// Decides what becomes of a cold entry under the hand, in its locked shard. Chooses one for
    /// each step of the hand, which then continues behind it.
    fn choose_candidate<'p>(
        &self,
        listener: &'p DecidingListener<K>,
        sources: &'p SourcePools,
        choice: &mut CandidateChoice<'p, K>,
        shard: &mut Shard<K>,
        at: BucketId,
        advice: EvictionAdvice,
    ) -> OnCold {
        if choice.candidate.is_some() {
            return OnCold::Stop;
        }
        if advice == EvictionAdvice::AtOnce {
            return OnCold::Take;
        }
        let (Some(key), Some(found)) = (shard.key_at(at), shard.found(at)) else {
            return OnCold::Pass;
        };
        let (hash, seen) = (self.hash(key), found.id());
        let Some(shown) = listener.shown.begin(hash) else {
            choice.passed_shown = true;
            return OnCold::Pass;
        };
        let Some(value) = hold_value(&found, sources) else {
            shard.keep_warm(at);
            choice.unreadable += 1;
            return OnCold::Pass;
        };
        let key = (listener.clone_key)(key);
        choice.candidate = Some(ChosenCandidate { key, hash, seen, value, shown });
        OnCold::Pass
    }

    /// Shows a candidate to the listener, and does what it decides if the entry has not changed.
    fn consult(
        &self,
        listener: &DecidingListener<K>,
        candidate: ChosenCandidate<'_, K>,
    ) -> CandidateFate<K> {
        let ChosenCandidate { key, hash, seen, mut value, shown } = candidate;
        // What cannot be shown is kept.
        let decision = self
            .show_candidate(&value, |candidate| (listener.decide)(&key, candidate))
            .unwrap_or(EvictionDecision::Keep);
        let evicts = decision == EvictionDecision::Evict;
        let fate =
            self.index().edit(hash, |shard, hash| shard.settle_candidate(hash, &key, seen, evicts));
        // Before the object is freed: an allocator may wait for readers (B20).
        if let CandidateValue::Pooled { object, .. } = &mut value {
            self.unpin(object);
        }
        drop(value);
        drop(shown);
        if matches!(fate, CandidateFate::Kept) {
            self.counters().eviction_kept();
        }
        if catch(|| drop(key)).is_none() {
            self.counters().listener_panicked();
        }
        fate
    }

    /// Checks a value and lends it to `decide`. A panic of that is counted, and keeps the value.
    fn show_candidate(
        &self,
        value: &CandidateValue<'_>,
        decide: impl Fn(&EvictionCandidate<'_>) -> EvictionDecision,
    ) -> Result<EvictionDecision, Error> {
        let lend = |blocks: &[EncodedBlock<'_>], codecs: &[Option<&Codec>]| {
            catch(|| decide(&EvictionCandidate::new(blocks, codecs))).unwrap_or_else(|| {
                self.counters().listener_panicked();
                EvictionDecision::Keep
            })
        };
        match value {
            CandidateValue::SameFilled { word, len } => {
                let block = EncodedBlock::SameFilled { word: word.to_le_bytes(), len: *len };
                Ok(lend(&[block], &[None]))
            }
            CandidateValue::Pooled { pool, object, meta } => {
                let (block, codec) = self.encoded(pool, object, *meta)?;
                Ok(lend(&[block], &[codec]))
            }
            CandidateValue::Large(large) => self.lend_large(large, lend),
        }
    }

    /// Pins all blocks of a long value, and lends them to `lend`.
    fn lend_large(
        &self,
        large: &LargeValue,
        lend: impl Fn(&[EncodedBlock<'_>], &[Option<&Codec>]) -> EvictionDecision,
    ) -> Result<EvictionDecision, Error> {
        let (mut backoff, count) = (Backoff::default(), large.parts.len());
        let mut objects = list_of(count)?;
        for part in &large.parts {
            objects.push(match part {
                Value::Pooled(block) => {
                    let pool = block.object.pool();
                    Some(backoff.retry(|| pin(pool, block.object.handle()))?)
                }
                _ => None,
            });
        }
        let (mut blocks, mut codecs) = (list_of(count)?, list_of(count)?);
        for (part, object) in large.parts.iter().zip(&objects) {
            let (block, codec) = match (part, object) {
                (Value::Pooled(block), Some(object)) => {
                    self.encoded(block.object.pool(), object, block.meta)?
                }
                (Value::SameFilled { word, len }, _) => {
                    (EncodedBlock::SameFilled { word: word.to_le_bytes(), len: *len }, None)
                }
                _ => unreachable!("the blocks of a long value are in memory, and none is long"),
            };
            blocks.push(block);
            codecs.push(codec);
        }
        let decision = lend(&blocks, &codecs);
        objects.iter_mut().flatten().for_each(|object| self.unpin(object));
        Ok(decision)
    }

    /// Returns the form of a block, and its codec, after checking its object.
    fn encoded<'o>(
        &self,
        pool: &'o PoolRef,
        object: &'o [u8],
        meta: ObjectMeta,
    ) -> Result<(EncodedBlock<'o>, Option<&'o Codec>), Error> {
        if !meta.matches(object, self.encode_options().checksums) {
            return Err(Error::Codec(CodecError::Corrupt));
        }
        EncodedBlock::of_object(pool, object, meta)
    }
}

/// Pins a value. Returns `None` if its pool does not return it.
fn hold_value<'p>(found: &ValueRef<'_>, sources: &'p SourcePools) -> Option<CandidateValue<'p>> {
    Some(match found {
        ValueRef::SameFilled { word, len } => CandidateValue::SameFilled { word: *word, len: *len },
        ValueRef::Pooled { handle, pool, meta } => {
            let pool = sources.hold(pool)?;
            CandidateValue::Pooled { pool, object: pin(pool, handle).ok()?, meta: *meta }
        }
        ValueRef::Large(large) => CandidateValue::Large(TryArc::clone(large)),
        ValueRef::Backed(_) => unreachable!("`build` refuses a tier with a listener that decides"),
    })
}

/// Returns an empty list with room for `count` items.
fn list_of<T>(count: usize) -> Result<Vec<T>, Error> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Error::IndexOutOfMemory)?;
    Ok(list)
}
