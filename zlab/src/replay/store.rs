//! Runs actions on a store and compares it with a list of its contents. The fuzz target for stores
//! includes this file.

use zpool_conformance::Generator;
use zpool_conformance::action::{Action, Subject};
use zpool_core::spec::PoolSpec;
use zswap::Store;

/// Runs each [`Action`] on a store.
///
/// - `insert` stores a block under a new key or, for 1/4 of the fills, replaces one.
/// - `free` invalidates.
/// - A store has no call for `hold`, `release`, `compact`, `reclaim` and `trim`. They read
///   everything instead, so that every list is valid.
#[derive(Debug)]
pub(crate) struct StoreModelRunner<'a> {
    store: &'a Store<u64>,
    live: Vec<(u64, Vec<u8>)>,
    next_key: u64,
}

impl<'a> StoreModelRunner<'a> {
    pub(crate) fn new(store: &'a Store<u64>) -> StoreModelRunner<'a> {
        StoreModelRunner { store, live: Vec::new(), next_key: 0 }
    }

    fn insert(&mut self, len: usize, fill: u64) -> Result<(), String> {
        let mut block = vec![0; len % (self.store.block_size() + 1)];
        // The usual mix of blocks: same-filled, text, noise.
        Generator::new(fill).block(&mut block);
        let old = (fill.is_multiple_of(4) && !self.live.is_empty())
            .then(|| fill as usize / 4 % self.live.len());
        let key = old.map_or(self.next_key, |nth| self.live[nth].0);
        self.next_key += 1;
        if let Some(nth) = old {
            self.live.swap_remove(nth);
        }
        // An error costs the older block of that key, and no other.
        match self.store.store(key, &block) {
            Ok(()) => self.live.push((key, block)),
            Err(error) if self.store.contains(&key) => {
                return Err(format!("after a store that failed ({error}) key {key} is there"));
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn compare(&self, nth: usize) -> Result<(), String> {
        let (key, block) = &self.live[nth];
        match self.store.load_vec(key) {
            Ok(Some(loaded)) if loaded == *block => Ok(()),
            Ok(Some(loaded)) => Err(format!(
                "I7: key {key}: {} bytes that are not the {} stored",
                loaded.len(),
                block.len()
            )),
            Ok(None) => Err(format!("I7: key {key} is gone")),
            Err(error) => Err(format!("I7: key {key}: {error}")),
        }
    }

    fn compare_all(&self) -> Result<(), String> {
        (0..self.live.len()).try_for_each(|nth| self.compare(nth))
    }

    fn invalidate(&mut self, nth: usize) -> Result<(), String> {
        let (key, _) = self.live.swap_remove(nth);
        if self.store.invalidate(&key) && !self.store.contains(&key) {
            return Ok(());
        }
        Err(format!("key {key} was not invalidated"))
    }

    fn switch(&self, spec: &str) -> Result<(), String> {
        // An unknown name is an error of the caller, and the current pool stays.
        let before = self.store.manager().current().map(|pool| pool.spec().clone());
        let switched = spec.parse::<PoolSpec>().is_ok_and(|spec| self.store.switch(&spec).is_ok());
        let after = self.store.manager().current().map(|pool| pool.spec().clone());
        if !switched && before != after {
            return Err(format!(
                "a switch to `{spec}` that failed left {after:?} in place of {before:?}"
            ));
        }
        self.compare_all()
    }
}

impl Subject for StoreModelRunner<'_> {
    fn apply(&mut self, action: &Action) -> Result<(), String> {
        let live = self.live.len();
        match action {
            Action::Insert { len, fill } => self.insert(*len, *fill)?,
            Action::Read { nth } if live > 0 => self.compare(nth % live)?,
            Action::Free { nth } if live > 0 => self.invalidate(nth % live)?,
            Action::Switch { spec } => self.switch(spec)?,
            _ => self.compare_all()?,
        }
        match self.store.len() {
            len if len == self.live.len() => Ok(()),
            len => Err(format!("I4: {len} entries, {} were stored", self.live.len())),
        }
    }

    fn finish(mut self) -> Result<(), String> {
        self.compare_all()?;
        while !self.live.is_empty() {
            self.invalidate(0)?;
        }
        if self.store.is_empty() {
            Ok(())
        } else {
            Err(format!("I4: {} entries left", self.store.len()))
        }
    }
}
