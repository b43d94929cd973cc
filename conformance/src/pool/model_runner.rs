//! Runs actions on a pool and on the reference, and compares them after each.

use zpool_core::page::{FaultySource, PageSource};
use zpool_core::{
    CompactionBudget, Evict, Handle, HandleId, NotEvicted, PoolError, ReadGuard, ZPool,
};

use super::harness::{assert_accounting, contents};
use crate::action::{Action, Subject};
use crate::reference::ReferencePool;

/// Runs each [`Action`] on a pool and on a [`ReferencePool`], and compares the two.
#[derive(Debug)]
pub struct PoolModelRunner<'a> {
    pool: &'a dyn ZPool,
    /// The pool's own source, whose charges must be the pool's frames.
    source: Option<&'a FaultySource>,
    reference: ReferencePool,
    live: Vec<OraclePair>,
    held: Vec<HeldGuard<'a>>,
    /// Whether two guards of one object read at different places. The pool then hands out copies,
    /// and guards hold nothing of it.
    copies: bool,
}

/// An object in both pools.
#[derive(Debug)]
struct OraclePair {
    handle: Handle,
    oracle: Handle,
}

#[derive(Debug)]
struct HeldGuard<'a> {
    guard: ReadGuard<'a>,
    address: *const u8,
    expected: Vec<u8>,
    /// The object's name, which is good while it is live.
    id: HandleId,
    zombie: bool,
}

impl<'a> PoolModelRunner<'a> {
    /// Wraps an empty pool. With the pool's own `source`, its accounts are checked as well; without
    /// one, only contents and `validate`.
    pub fn new(pool: &'a dyn ZPool, source: Option<&'a FaultySource>) -> PoolModelRunner<'a> {
        let reference = ReferencePool::new(pool.capabilities().max_object_len);
        PoolModelRunner {
            pool,
            source,
            reference,
            live: Vec::new(),
            held: Vec::new(),
            copies: false,
        }
    }

    fn insert(&mut self, len: usize, fill: u64) -> Result<(), String> {
        let bytes = contents(fill, (len.max(1) - 1) % self.pool.capabilities().max_object_len + 1);
        let handle = self
            .pool
            .insert(&bytes)
            .map_err(|e| format!("insert of {} bytes: {e}", bytes.len()))?;
        let oracle = self.reference.insert(&bytes).map_err(|e| format!("the reference: {e}"))?;
        self.live.push(OraclePair { handle, oracle });
        Ok(())
    }

    fn read(&self, nth: usize) -> Result<Option<HeldGuard<'a>>, String> {
        let Some(pair) = nth_of(&self.live, nth) else { return Ok(None) };
        let id = pair.handle.id();
        let guard = self.pool.read(&pair.handle).map_err(|e| format!("read of {id:?}: {e}"))?;
        let oracle =
            self.reference.read(&pair.oracle).map_err(|e| format!("the reference: {e}"))?;
        let held = HeldGuard {
            address: guard.as_ptr(),
            expected: oracle.to_vec(),
            guard,
            id,
            zombie: false,
        };
        held.compare().map(|()| Some(held))
    }

    fn free(&mut self, nth: usize) -> Result<(), String> {
        if self.live.is_empty() {
            return Ok(());
        }
        let pair = self.live.swap_remove(nth % self.live.len());
        let id = pair.handle.id();
        self.pool.free(pair.handle).map_err(|e| e.to_string())?;
        self.reference.free(pair.oracle).map_err(|e| format!("the reference: {e}"))?;
        for held in self.held.iter_mut().filter(|held| held.id == id && !held.zombie) {
            held.zombie = true;
        }
        match self.pool.read(&id.forge()) {
            Err(PoolError::StaleHandle) => Ok(()),
            other => Err(format!("F1: read of {id:?} right after its free: {other:?}")),
        }
    }

    fn exchange(&mut self, nth: usize, with: usize) -> Result<(), String> {
        let live = self.live.len().max(1);
        let Ok([kept, other]) = self.live.get_disjoint_mut([nth % live, with % live]) else {
            return Ok(());
        };
        let ids = [kept.handle.id(), other.handle.id()];
        if self.pool.exchange(&kept.handle, &mut other.handle) {
            if self.held.iter().any(|held| ids.contains(&held.id) && !held.zombie) {
                return Err(format!("H3: an exchange of {ids:?}, one of which a guard holds"));
            }
            // Now each handle belongs to the other's oracle.
            std::mem::swap(&mut kept.oracle, &mut other.oracle);
        }
        [nth, with].into_iter().try_for_each(|nth| self.read(nth).map(drop))
    }

    fn compact(&mut self, moves: usize) -> Result<(), String> {
        let report = self.pool.compact(CompactionBudget::moves(moves));
        if report.moved_objects > moves {
            return Err(format!("M2: {report:?} with a budget of {moves} moves"));
        }
        self.compare_all()
    }

    fn reclaim(&mut self, pages: usize) -> Result<(), String> {
        let can = self.pool.capabilities().can_reclaim;
        let mut owner = Agreeing { subject: self, failed: None };
        let before = owner.subject.source.map(|source| source.charged_frames());
        let outcome = owner.subject.pool.reclaim(pages, &mut owner);
        if let Some(failed) = owner.failed {
            return Err(failed);
        }
        let report = match outcome {
            Ok(report) if can && report.pages >= pages => report,
            Err(error) if can && error.report.pages < pages => error.report,
            Err(error) if !can && error.error == PoolError::Unsupported("reclaim") => error.report,
            other => return Err(format!("E2, E3: {other:?}, for {pages} pages")),
        };
        if let (Some(source), Some(before)) = (self.source, before)
            && before.saturating_sub(source.charged_frames()) < report.pages
        {
            return Err(format!(
                "E2: {report:?}, but {before} frames became {}",
                source.charged_frames()
            ));
        }
        self.compare_all()
    }

    /// Reads everything and compares it.
    fn compare_all(&self) -> Result<(), String> {
        (0..self.live.len()).try_for_each(|nth| self.read(nth).map(drop))?;
        self.held.iter().try_for_each(HeldGuard::compare)
    }

    /// Checks the accounting after a step.
    fn check_accounting(&self) -> Result<(), String> {
        if let Err(violation) = self.pool.validate() {
            return Err(format!("V1: {violation}"));
        }
        let mut zombies: Vec<_> =
            self.held.iter().filter(|h| h.zombie).map(|h| (h.id, h.expected.len())).collect();
        zombies.sort_unstable();
        zombies.dedup();
        zombies.retain(|_| !self.copies);
        let zombie_bytes: usize = zombies.iter().map(|(_, len)| len).sum();
        let payload = self.reference.stats().payload_bytes + zombie_bytes;
        if let Some(source) = self.source {
            assert_accounting(self.pool, source, self.live.len(), zombies.len(), payload);
        }
        Ok(())
    }
}

impl Subject for PoolModelRunner<'_> {
    fn apply(&mut self, action: &Action) -> Result<(), String> {
        match *action {
            Action::Insert { len, fill } => self.insert(len, fill)?,
            Action::Read { nth } => drop(self.read(nth)?),
            Action::Hold { nth } => {
                let (held, again) = (self.read(nth)?, self.read(nth)?);
                self.copies |= held.as_ref().map(|h| h.address) != again.map(|h| h.address);
                self.held.extend(held);
            }
            Action::Release { nth } if !self.held.is_empty() => {
                self.held.swap_remove(nth % self.held.len()).compare()?;
            }
            Action::Free { nth } => self.free(nth)?,
            Action::Exchange { nth, with } => self.exchange(nth, with)?,
            Action::Compact { moves } => self.compact(moves)?,
            Action::Reclaim { pages } => self.reclaim(pages)?,
            Action::Trim => drop(self.pool.trim()),
            Action::Release { .. } | Action::Switch { .. } => {}
        }
        self.check_accounting()
    }

    fn finish(mut self) -> Result<(), String> {
        self.compare_all()?;
        while let Some(held) = self.held.pop() {
            held.compare()?;
        }
        while !self.live.is_empty() {
            self.free(0)?;
        }
        self.pool.trim();
        self.check_accounting()?;
        match self.source.map_or(0, |source| source.charged_frames()) {
            0 => Ok(()),
            left => Err(format!("T1: {left} frames charged to an empty pool after trim")),
        }
    }
}

impl HeldGuard<'_> {
    fn compare(&self) -> Result<(), String> {
        if self.guard.as_ptr() != self.address {
            return Err(format!("R2: the bytes of {:?} moved under a guard", self.id));
        }
        if *self.guard != *self.expected {
            return Err(format!(
                "R1: {:?} reads as {} bytes that are not the {} inserted",
                self.id,
                self.guard.len(),
                self.expected.len()
            ));
        }
        Ok(())
    }
}

/// Frees every object that it is asked for, in both pools.
struct Agreeing<'s, 'a> {
    subject: &'s mut PoolModelRunner<'a>,
    failed: Option<String>,
}

impl Evict for Agreeing<'_, '_> {
    fn evict(&mut self, id: HandleId) -> Result<(), NotEvicted> {
        let Some(nth) = self.subject.live.iter().position(|pair| pair.handle.id() == id) else {
            self.failed = Some(format!("E1: asked for {id:?}, which is not live"));
            return Ok(());
        };
        self.failed = self.failed.take().or(self.subject.free(nth).err());
        Ok(())
    }
}

fn nth_of<T>(of: &[T], nth: usize) -> Option<&T> {
    (!of.is_empty()).then(|| &of[nth % of.len()])
}
