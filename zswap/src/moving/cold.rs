//! The cold pool: a clock finds blocks that have cooled down, and moves them there.
//!
//! ```text
//!   hand ─► entry   heat 1 to 3:        less 1; at 2 or 3, from the cold pool to the current one
//!                   0 for the 1st time: remember that
//!                   0 for the 2nd time: to the cold pool, if it becomes smaller by 1/8
//!           in an earlier cold pool:    to the cold pool
//! ```
//!
//! If the cold pool has changed, one turn moves everything over from the earlier one, and tries
//! again what would not have become smaller there.
//!
//! The hand is not the one of eviction, which moves only when something is evicted. Both cool the
//! same heat. A turn visits each entry once, so an entry moves at most once per turn.

use std::hash::{BuildHasher, Hash};
use std::time::Instant;

use bumpalo::Bump;
use zpool_core::exec::Job;
use zpool_core::internal::{TryArc, catch, prefetch};
use zpool_core::{PoolId, might_block};
use zpool_manager::{Pool, PoolRef};

use crate::index::shard::{Temperature, ValueRef};
use crate::moving::batch::{
    BATCH, Batch, ChosenEntry, ChosenValue, LINES, SourcePools, entry_bytes, new_batch,
};
use crate::moving::relocate::{BlockBuffer, KeptReason, Move, Relocated};
use crate::stats::cold_report::ColdReport;
use crate::store::{Store, WeakStore};
use crate::value::pooled_object::pin;
use crate::value::{LargeValue, Value};

/// A block that does not shrink by at least one part in this many stays in the current pool.
const MIN_GAIN: usize = 8;

/// Heat from which a cold block returns to the current pool.
const OFTEN: u32 = 2;

/// The two pools, and what to move between them.
struct Roles {
    current: PoolRef,
    cold: PoolRef,
    switches: u64,
}

/// The role of the pool that an entry is in. If its blocks are in several pools, the first of these
/// roles counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PoolRole {
    /// Current now, or before it retired.
    Hot,
    /// The cold pool before it retired.
    FormerlyCold,
    Cold,
}

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Turns the heat clock once: cools every entry, moves those that two turns in a row found
    /// without heat to the [cold pool](crate::StoreBuilder::cold), and moves those back whose heat
    /// is at least 2. Does nothing in a store without such a pool.
    ///
    /// The first turn after [`set_cold`](Self::set_cold) also moves everything from the previous
    /// cold pool to the new one, and tries entries again that would not have become smaller by 1/8
    /// before.
    ///
    /// The clock runs by itself if the executor keeps delays, as the default one does. This call is
    /// for other executors, and for programs that know a good moment.
    ///
    /// Entries are copied as by a [drain](Self::drain), with the same guarantees: it never evicts,
    /// begins no copy that would pass the limit, and counts nothing as a store or a use.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use std::time::Duration;
    ///
    /// // A turn takes an hour, so that the store's own clock does not interfere.
    /// let store = zswap::Store::<u64>::builder()
    ///     .cold("zsmalloc(chain=8)+lz4".parse()?)
    ///     .cold_turn(Duration::from_secs(3600))
    ///     .build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// let report = store.turn_heat_clock();
    /// println!("{report:?}");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the key's `Hash`, `Eq` or `Clone` does. Nothing is lost then.
    ///
    /// # Concurrency
    ///
    /// May block. Any number of threads may use the store meanwhile. If two threads turn the clock,
    /// each turns a part.
    pub fn turn_heat_clock(&self) -> ColdReport {
        might_block("Store::turn_heat_clock");
        let mut report = ColdReport::default();
        for _ in 0..self.index().shards() {
            let shard = self.turn_shard();
            report = report.then(shard);
        }
        report
    }

    /// Moves the hand to the end of the shard that it is in.
    fn turn_shard(&self) -> ColdReport {
        let mut report = ColdReport::default();
        let mut arena = self.drain_state().take_arena();
        while self.turn_batch(&mut report, &arena) {
            arena.reset();
        }
        arena.reset();
        self.drain_state().keep_arena(arena);
        self.cold_state().add(&report);
        report
    }

    /// Cools a stretch of a shard, and moves what is to be moved. Returns false at the shard's end.
    fn turn_batch(&self, report: &mut ColdReport, arena: &Bump) -> bool {
        let switches = self.manager().switches();
        let (Some(current), Some(cold)) = (self.manager().current(), self.manager().cold()) else {
            return false;
        };
        let roles = Roles { current, cold, switches };
        let sources = SourcePools::default();
        let Some(mut batch) = new_batch(arena) else {
            report.no_room = true;
            return false;
        };
        let goes_on = self.choose_by_heat(report, &roles, &sources, &mut batch);
        let mut room = self.room_for(&batch);
        let mut buffer = BlockBuffer::new(arena);
        for chosen in batch {
            if self.manager().switches() != roles.switches {
                break;
            }
            if !self.makes_room(&mut room, entry_bytes(&chosen.value), &sources) {
                report.no_room = true;
                break;
            }
            let from = chosen.value.role(roles.cold.id());
            let to = match from {
                PoolRole::Cold => Move::to(&roles.current),
                PoolRole::FormerlyCold => Move::to(&roles.cold),
                PoolRole::Hot => Move { target: &roles.cold, min_gain: Some(MIN_GAIN) },
            };
            report.count(self.relocate(chosen, to, &mut buffer), from);
        }
        goes_on
    }

    /// Cools entries under the hand, and chooses those to be moved. Returns false at the end of the
    /// shard.
    fn choose_by_heat<'p>(
        &self,
        report: &mut ColdReport,
        roles: &Roles,
        sources: &'p SourcePools,
        batch: &mut Batch<'_, 'p, K>,
    ) -> bool {
        let cold = roles.cold.id();
        let mut hand = self.cold_state().hand.lock();
        let retry_kept = hand.retries_kept(cold, self.index().shards());
        let next = self.index().edit_shard(hand.cursor.shard, |shard| {
            shard.cool(hand.cursor.position, retry_kept, |key, temperature, found| {
                let seen = found.id();
                let value = match found {
                    ValueRef::Pooled { handle, pool, meta } => {
                        if !moves(temperature, role_of(pool, cold)) {
                            return true;
                        }
                        let Some(pool) = sources.hold(pool) else { return false };
                        let Ok(object) = pin(pool, handle) else {
                            report.failed += 1;
                            return true;
                        };
                        prefetch(&object, LINES);
                        ChosenValue::Pooled { pool, object, meta }
                    }
                    ValueRef::Large(large) => {
                        if !moves(temperature, role_of_large(large, cold)) {
                            return true;
                        }
                        ChosenValue::Large(TryArc::clone(large))
                    }
                    ValueRef::SameFilled { .. } | ValueRef::Backed(_) => return true,
                };
                batch.push(ChosenEntry { key: key.clone(), seen, value });
                batch.len() < BATCH
            })
        });
        hand.advance(next, self.index().shards());
        next.is_some()
    }
}

/// Returns whether an entry of this temperature moves.
fn moves(temperature: Temperature, from: PoolRole) -> bool {
    match (from, temperature) {
        (PoolRole::Hot, Temperature::Cold) | (PoolRole::FormerlyCold, _) => true,
        (PoolRole::Cold, Temperature::Used(heat)) => heat >= OFTEN,
        _ => false,
    }
}

/// Returns the role of `pool`, if `cold` is the cold pool.
fn role_of(pool: &Pool, cold: PoolId) -> PoolRole {
    match pool.id() == cold {
        true => PoolRole::Cold,
        false if pool.is_for_cold() => PoolRole::FormerlyCold,
        false => PoolRole::Hot,
    }
}

/// Returns the role of the pools of a long value.
fn role_of_large(large: &LargeValue, cold: PoolId) -> PoolRole {
    let roles = large.parts.iter().filter_map(|part| match part {
        Value::Pooled(block) => Some(role_of(block.object.pool(), cold)),
        _ => None,
    });
    roles.min().unwrap_or(PoolRole::Cold)
}

impl ChosenValue<'_> {
    fn role(&self, cold: PoolId) -> PoolRole {
        match self {
            ChosenValue::Pooled { pool, .. } => role_of(pool, cold),
            ChosenValue::Large(large) => role_of_large(large, cold),
        }
    }
}

impl ColdReport {
    fn count(&mut self, relocated: Relocated, from: PoolRole) {
        match relocated {
            Relocated::Moved { .. } if from == PoolRole::Cold => self.returned += 1,
            Relocated::Moved { .. } if from == PoolRole::FormerlyCold => self.moved_over += 1,
            Relocated::Moved { bytes_before, bytes_after, .. } => {
                self.made_cold += 1;
                self.object_bytes_before += bytes_before;
                self.object_bytes_after += bytes_after;
            }
            Relocated::Changed => self.changed += 1,
            Relocated::Kept(KeptReason::NotSmaller) => self.stayed += 1,
            Relocated::Kept(KeptReason::OutOfMemory) => self.no_room = true,
            Relocated::Kept(_) => self.failed += 1,
        }
    }

    /// Returns the report of two parts of a turn.
    fn then(self, later: ColdReport) -> ColdReport {
        ColdReport {
            made_cold: self.made_cold + later.made_cold,
            returned: self.returned + later.returned,
            moved_over: self.moved_over + later.moved_over,
            stayed: self.stayed + later.stayed,
            changed: self.changed + later.changed,
            failed: self.failed + later.failed,
            object_bytes_before: self.object_bytes_before + later.object_bytes_before,
            object_bytes_after: self.object_bytes_after + later.object_bytes_after,
            no_room: self.no_room || later.no_room,
        }
    }
}

/// Begins the clock of a new store, if its executor keeps delays.
pub(crate) fn start_heat_clock<K, S>(store: &Store<K, S>)
where
    K: Hash + Eq + Clone + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    if store.manager().executor().capabilities().keeps_delays {
        submit_tick(store, Instant::now());
    }
}

/// Submits the job that turns one shard, so that all of them take the time of a turn.
fn submit_tick<K, S>(store: &Store<K, S>, began: Instant)
where
    K: Hash + Eq + Clone + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    let tick = store.cold_state().turn / store.index().shards() as u32;
    let weak = store.downgrade();
    let job = Job::try_new("turn the heat clock", || move || run_tick(weak));
    // If the executor refuses it, the clock stops, and the store works without it.
    if let Some(job) = job {
        let pause = tick.saturating_sub(began.elapsed());
        catch(|| store.manager().executor().submit_later(pause, job).is_ok());
    }
}

fn run_tick<K, S>(store: WeakStore<K, S>)
where
    K: Hash + Eq + Clone + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    let Some(store) = store.upgrade() else { return };
    let began = Instant::now();
    // A panic of a key ends the tick, not the clock.
    catch(|| store.turn_shard());
    submit_tick(&store, began);
}
