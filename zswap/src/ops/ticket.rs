//! Loads that never read the tier, for asynchronous callers: they return a block in memory at once,
//! and a ticket for one in the tier.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use crate::index::shard::ValueRef;
use crate::store::Store;
use crate::value::error::Error;

/// Place where the block of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Residence {
    /// In memory.
    Memory,
    /// In the tier. It may turn out to be lost.
    Tier,
}

/// Result of [`Store::load_or_ticket`].
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadOrTicket<K, S = RandomState> {
    /// The buffer holds a block of this length.
    Loaded(usize),
    /// The block is in the tier.
    Ticket(LoadTicket<K, S>),
    /// There is nothing under the key.
    Nothing,
}

/// A load that was put off, because it blocks: to be [read](Self::read) on a thread that may.
///
/// It keeps the store, and nothing of the block: if that is replaced or removed meanwhile, the
/// ticket reads what there is then.
#[must_use = "a ticket does nothing until it is read"]
pub struct LoadTicket<K, S = RandomState> {
    store: Store<K, S>,
    key: K,
}

impl<K: Hash + Eq, S: BuildHasher> LoadTicket<K, S> {
    /// Loads what is stored under the key now: see [`Store::load`].
    ///
    /// # Errors
    ///
    /// As for [`Store::load`].
    pub fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        self.store.load(&self.key, buffer)
    }

    /// Returns the key.
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K, S> fmt::Debug for LoadTicket<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadTicket").finish_non_exhaustive()
    }
}

/// # The tier below memory
impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Loads what is stored under `key` if it is in memory. Returns a ticket if it is in the tier.
    ///
    /// For asynchronous callers: a block in memory takes microseconds, and a ticket is read where
    /// blocking is allowed, such as in tokio's `spawn_blocking`. Never reads the tier itself.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::Store;
    /// use zswap::tier::LoadOrTicket;
    ///
    /// let store = Store::<u64>::builder().build()?;
    /// store.store(7, b"a page of memory ".repeat(240))?;
    /// let mut page = vec![0; 4096];
    /// let len = match store.load_or_ticket(&7, &mut page)? {
    ///     LoadOrTicket::Loaded(len) => Some(len),
    ///     LoadOrTicket::Ticket(ticket) => {
    ///         std::thread::spawn(move || ticket.read(&mut page)).join().unwrap()?
    ///     }
    ///     _ => None,
    /// };
    /// assert_eq!(len, Some(4080));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_or_ticket(&self, key: &K, buffer: &mut [u8]) -> Result<LoadOrTicket<K, S>, Error>
    where
        K: Clone,
    {
        match self.load_resident(key, buffer) {
            Ok(Some(len)) => Ok(LoadOrTicket::Loaded(len)),
            Ok(None) => Ok(LoadOrTicket::Nothing),
            Err(Error::WouldBlock) => Ok(self.ticket(key)),
            Err(error) => Err(error),
        }
    }

    fn ticket(&self, key: &K) -> LoadOrTicket<K, S>
    where
        K: Clone,
    {
        LoadOrTicket::Ticket(LoadTicket { store: self.clone(), key: key.clone() })
    }

    /// Returns where the block of `key` is, or `None` if there is nothing. Not counted as a load.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::tier::Residence;
    ///
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(1, "one")?;
    /// assert_eq!(store.tier_of(&1), Some(Residence::Memory));
    /// assert_eq!(store.tier_of(&2), None);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tier_of<Q>(&self, key: &Q) -> Option<Residence>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (shard, hash) = self.index().lock(self.hash(key));
        match shard.find(hash, key)? {
            ValueRef::Backed(place) => shard.is_current(place).then_some(Residence::Tier),
            _ => Some(Residence::Memory),
        }
    }
}
