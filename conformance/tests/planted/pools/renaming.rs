//! Pools that exchange the objects of two handles, with one bug in that at a time. They map names
//! of their own to the handles of a reference pool, and can give a name to any object.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hint::black_box;
use std::sync::Arc;

use zpool_conformance::ReferencePool;
use zpool_core::internal::sync::Mutex;
use zpool_core::page::PageSource;
use zpool_core::{
    Capabilities, FreeError, Handle, HandleId, HandleMint, PoolError, PoolId, PoolStats, ReadGuard,
    Violation, ZPool, might_block,
};

planted! {
    /// The bug of a [`Renaming`] pool.
    enum Flaw {
        bugs {
            SaysItExchanged,
            ExchangesAndDoesNotSay,
            ExchangesUnderAGuard,
            ExchangesInTwoSteps,
            ExchangesHalf,
            MakesStaleHandlesGood,
            CountsExchangesAsObjects,
            AsksTheSourceToExchange,
            BlocksToExchange,
            AllocatesToExchange,
        }
        oddities {
            Nothing,
            ExchangesNowAndThen,
        }
    }
}

use Flaw::*;

pub(crate) struct Renaming {
    inner: ReferencePool,
    flaw: Flaw,
    source: Arc<dyn PageSource>,
    mint: HandleMint,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    inner: HashMap<HandleId, Handle>,
    next: u32,
    exchanges: usize,
}

impl Renaming {
    pub(crate) fn new(flaw: Flaw, source: Arc<dyn PageSource>) -> Renaming {
        let inner = ReferencePool::new(super::MAX_LEN);
        Renaming { inner, flaw, source, mint: HandleMint::new(), names: Mutex::default() }
    }

    pub(crate) fn facts(_: Flaw) -> Capabilities {
        Capabilities::new(super::MAX_LEN)
    }

    fn stale<T>(&self, handle: &Handle, found: Option<T>) -> Result<T, PoolError> {
        self.mint.open(handle)?;
        found.ok_or(PoolError::StaleHandle)
    }

    /// Exchanges the objects of two names, whatever that takes.
    fn rename(&self, one: &Handle, another: &Handle) {
        let mut names = self.names.lock();
        let (Some(first), Some(second)) =
            (names.inner.remove(&one.id()), names.inner.remove(&another.id()))
        else {
            panic!("both were there");
        };
        if self.flaw == ExchangesInTwoSteps {
            drop(names);
            // Long enough for a reader to come in between, also on a busy machine.
            std::thread::sleep(std::time::Duration::from_micros(1));
            names = self.names.lock();
        }
        names.inner.insert(one.id(), second);
        names.inner.insert(another.id(), first);
    }
}

impl ZPool for Renaming {
    fn id(&self) -> PoolId {
        self.mint.pool_id()
    }

    fn capabilities(&self) -> Capabilities {
        Renaming::facts(self.flaw)
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        let inner = self.inner.insert(object)?;
        let mut names = self.names.lock();
        names.next += 1;
        let handle = self.mint.mint(names.next, 0);
        names.inner.insert(handle.id(), inner);
        Ok(handle)
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let names = self.names.lock();
        self.inner.read(self.stale(handle, names.inner.get(&handle.id()))?)
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let found = self.names.lock().inner.remove(&handle.id());
        match self.stale(&handle, found) {
            Ok(inner) => self
                .inner
                .free(inner)
                .map_err(|error| FreeError::new(error.error().clone(), handle)),
            Err(error) => Err(FreeError::new(error, handle)),
        }
    }

    fn exchange(&self, handle: &Handle, other: &mut Handle) -> bool {
        match self.flaw {
            BlocksToExchange => might_block("Renaming::exchange"),
            AllocatesToExchange => drop(black_box(vec![0_u8; black_box(32)])),
            AsksTheSourceToExchange if self.source.charge(1).is_ok() => self.source.uncharge(1),
            _ => {}
        }
        let mut names = self.names.lock();
        let [first, second] =
            [handle, &*other].map(|handle| names.inner.get(&handle.id()).map(Handle::id));
        let (Some(first), Some(second)) = (first, second) else {
            return self.flaw == MakesStaleHandlesGood && first.is_some();
        };
        if handle == other {
            return false;
        }
        names.exchanges += 1;
        let now = self.flaw != ExchangesNowAndThen || names.exchanges.is_multiple_of(2);
        drop(names);
        match self.flaw {
            SaysItExchanged => return true,
            ExchangesUnderAGuard => {
                self.rename(handle, other);
                return true;
            }
            _ => {}
        }
        // Changes the objects of the inner handles, so names need not change.
        let done = now && self.inner.exchange(&first.forge(), &mut second.forge());
        if done && self.flaw == ExchangesHalf {
            let mut names = self.names.lock();
            names.inner.insert(other.id(), first.forge());
        }
        if done && self.flaw == ExchangesInTwoSteps {
            // Change them back, because names change.
            self.inner.exchange(&first.forge(), &mut second.forge());
            self.rename(handle, other);
        }
        done && self.flaw != ExchangesAndDoesNotSay
    }

    fn bytes_held(&self) -> usize {
        self.stats().pool_bytes()
    }

    fn stats(&self) -> PoolStats {
        let mut stats = self.inner.stats();
        if self.flaw == CountsExchangesAsObjects {
            stats.objects += self.names.lock().exchanges;
        }
        stats
    }

    fn validate(&self) -> Result<(), Violation> {
        self.inner.validate()
    }

    fn trim(&self) -> usize {
        self.inner.trim()
    }
}

impl Debug for Renaming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Renaming({:?})", self.flaw)
    }
}
