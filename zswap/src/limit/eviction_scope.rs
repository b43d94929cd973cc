//! The stores that the current thread evicts from.
//!
//! A listener may store into the store that evicts. That must not evict again, because it would
//! recurse for ever. A listener may also store into other stores, such as a second tier, which make
//! room themselves. So a chain of tiers marks one store after the other.

use std::cell::{Cell, RefCell};

/// Marks that need no heap call.
const INLINE: usize = 8;

thread_local! {
    /// The stores that this thread is evicting from (addresses; 0: none).
    static EVICTING: Cell<[usize; INLINE]> = const { Cell::new([0; INLINE]) };
    /// Further ones, of longer chains.
    static FURTHER: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Marks this thread as evicting from a store while it lives; there is one at a time for each
/// store.
#[derive(Debug)]
pub(crate) struct EvictionScope {
    store: usize,
    place: Option<usize>,
}

impl EvictionScope {
    /// Marks `store`. Returns `None` if this thread evicts from it already, or if there is no
    /// memory for one more in a chain of more than eight.
    pub(crate) fn enter<T>(store: &T) -> Option<EvictionScope> {
        let (mut all, store) = (EVICTING.get(), std::ptr::from_ref(store).addr());
        if all.contains(&store) {
            return None;
        }
        let Some(place) = all.iter().position(|&other| other == 0) else {
            return EvictionScope::enter_further(store);
        };
        // With free places again after a longer chain, it may be among the further ones.
        if FURTHER.try_with(|further| further.borrow().contains(&store)).unwrap_or(false) {
            return None;
        }
        all[place] = store;
        EVICTING.set(all);
        Some(EvictionScope { store, place: Some(place) })
    }

    #[cold]
    fn enter_further(store: usize) -> Option<EvictionScope> {
        FURTHER
            .try_with(|further| {
                let mut further = further.borrow_mut();
                if further.contains(&store) || further.try_reserve(1).is_err() {
                    return None;
                }
                further.push(store);
                Some(EvictionScope { store, place: None })
            })
            // The thread ends, and its list is gone.
            .unwrap_or(None)
    }
}

impl Drop for EvictionScope {
    fn drop(&mut self) {
        match self.place {
            Some(place) => {
                let mut all = EVICTING.get();
                all[place] = 0;
                EVICTING.set(all);
            }
            None => {
                let _ = FURTHER
                    .try_with(|further| further.borrow_mut().retain(|&other| other != self.store));
            }
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// Twenty stores in each other's listeners: each is marked once, whichever way the marks go.
    #[test]
    fn marks_long_chain_each_store_once() {
        let stores = [0u8; 20];
        let mut marks: Vec<_> = stores
            .iter()
            .map(|store| EvictionScope::enter(store).expect("not marked yet"))
            .collect();
        assert!(stores.iter().all(|store| EvictionScope::enter(store).is_none()));
        drop(marks.remove(3));
        // A place is free, and the further ones are still marked.
        assert!(stores[4..].iter().all(|store| EvictionScope::enter(store).is_none()));
        marks.push(EvictionScope::enter(&stores[3]).expect("free again"));
        drop(marks);
        assert!(stores.iter().all(|store| EvictionScope::enter(store).is_some()));
    }
}
