//! A loom model of how an entry moves to another pool (`ci/loom.sh`): pin, copy, exchange, against
//! a store, a take, and a switch back to the pool that is being emptied.
//!
//! Models the protocol alone: an entry is a pool and the id of an object, under the shard's lock. A
//! pool reuses an id as soon as no reader holds it, and exchanges objects in place as zsmalloc
//! does. Two planted bugs show that the model finds such bugs.
#![cfg(zpool_loom)]

use std::sync::Arc;

use zpool_core::internal::sync::{Mutex, thread};

/// A pool of up to four objects, each one a version.
#[derive(Default)]
struct ModelPool(Mutex<[ModelObject; 4]>);

#[derive(Default, Clone, Copy)]
struct ModelObject {
    version: Option<u8>,
    pins: u8,
}

impl ModelPool {
    fn insert(&self, version: u8) -> usize {
        let mut objects = self.0.lock();
        let free = |object: &ModelObject| object.version.is_none() && object.pins == 0;
        let id = objects.iter().position(free).expect("four are enough");
        objects[id].version = Some(version);
        id
    }

    /// Pins a live object and returns its version.
    fn pin(&self, id: usize) -> u8 {
        let mut objects = self.0.lock();
        objects[id].pins += 1;
        objects[id].version.expect("an entry's object is live")
    }

    fn unpin(&self, id: usize) {
        self.0.lock()[id].pins -= 1;
    }

    fn free(&self, id: usize) {
        let freed = self.0.lock()[id].version.take();
        assert!(freed.is_some(), "an object is freed once");
    }

    /// Exchanges two objects in place, so that both ids stay. Declines if one is pinned.
    fn exchange(&self, one: usize, other: usize) -> bool {
        let mut objects = self.0.lock();
        if objects[one].pins + objects[other].pins > 0 {
            return false;
        }
        objects.swap(one, other);
        true
    }

    fn live(&self) -> usize {
        self.0.lock().iter().filter(|object| object.version.is_some()).count()
    }
}

/// An entry: the number of a pool, and an id there.
type Entry = Option<(usize, usize)>;

/// A store with one key.
#[derive(Default)]
struct ModelStore {
    pools: [ModelPool; 2],
    current: Mutex<usize>,
    entry: Mutex<Entry>,
}

/// A bug in the exchange.
#[derive(Clone, Copy, PartialEq)]
enum Planted {
    Nothing,
    NoIdentityCheck,
    UnpinnedBeforeExchange,
}

impl ModelStore {
    /// Makes a store with version 1 in pool 0, which is retired: pool 1 is current.
    fn new() -> Arc<ModelStore> {
        let store = ModelStore::default();
        store.store(1);
        store.switch(1);
        Arc::new(store)
    }

    fn switch(&self, pool: usize) {
        *self.current.lock() = pool;
    }

    fn store(&self, version: u8) {
        let pool = *self.current.lock();
        let mut new = (pool, self.pools[pool].insert(version));
        let mut entry = self.entry.lock();
        let old = match *entry {
            Some((same, id)) if same == pool && self.pools[pool].exchange(id, new.1) => Some(new),
            old => {
                *entry = Some(new);
                old
            }
        };
        drop(entry);
        if let Some(old) = old {
            new = old;
            self.pools[new.0].free(new.1);
        }
    }

    fn take(&self) -> Option<u8> {
        loop {
            let entry = self.entry.lock();
            let (pool, id) = (*entry)?;
            let version = self.pools[pool].pin(id);
            drop(entry);
            let mut entry = self.entry.lock();
            let taken = *entry == Some((pool, id));
            if taken {
                *entry = None;
            }
            drop(entry);
            self.pools[pool].unpin(id);
            if taken {
                self.pools[pool].free(id);
                return Some(version);
            }
        }
    }

    /// Moves the entry to the pool that is current, if it is in the other one.
    fn relocate(&self, planted: Planted) {
        let target = *self.current.lock();
        let entry = self.entry.lock();
        let Some((pool, id)) = *entry else { return };
        if pool == target {
            return;
        }
        let version = self.pools[pool].pin(id);
        drop(entry);
        let new = self.pools[target].insert(version);
        if planted == Planted::UnpinnedBeforeExchange {
            self.pools[pool].unpin(id);
        }
        let mut entry = self.entry.lock();
        let same = *entry == Some((pool, id)) || planted == Planted::NoIdentityCheck;
        let unused = if same { entry.replace((target, new)) } else { Some((target, new)) };
        drop(entry);
        if planted != Planted::UnpinnedBeforeExchange {
            self.pools[pool].unpin(id);
        }
        if let Some((pool, id)) = unused {
            self.pools[pool].free(id);
        }
    }

    /// Returns the version that is stored. Checks that nothing else is live, and nothing pinned.
    fn version(&self) -> Option<u8> {
        let entry = *self.entry.lock();
        let live: usize = self.pools.iter().map(ModelPool::live).sum();
        assert_eq!(live, usize::from(entry.is_some()), "each object has an entry");
        entry.map(|(pool, id)| {
            let version = self.pools[pool].pin(id);
            self.pools[pool].unpin(id);
            version
        })
    }
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(f);
}

/// Drains on a thread of its own, while `meet` runs on this one.
fn drain_and(store: &Arc<ModelStore>, planted: Planted, meet: impl FnOnce(&ModelStore)) {
    let other = store.clone();
    let drain = thread::spawn(move || other.relocate(planted));
    meet(store);
    drain.join().unwrap();
}

fn newer_version_is_kept(planted: Planted) {
    model(move || {
        let store = ModelStore::new();
        drain_and(&store, planted, |store| store.store(2));
        assert_eq!(store.version(), Some(2));
    });
}

fn newer_version_in_revived_pool_is_kept(planted: Planted) {
    model(move || {
        let store = ModelStore::new();
        drain_and(&store, planted, |store| {
            store.switch(0);
            store.store(2);
        });
        assert_eq!(store.version(), Some(2));
        // The drain that follows a revival changes its direction, and finds the entry in its place
        // or moves it.
        store.relocate(Planted::Nothing);
        assert_eq!((store.version(), store.pools[1].live()), (Some(2), 0));
    });
}

/// A store during a move. Preemption bound 3.
#[test]
fn exchange_keeps_newer_version() {
    newer_version_is_kept(Planted::Nothing);
}

/// A switch back and a store during a move. Preemption bound 3.
#[test]
fn exchange_keeps_newer_version_in_revived_pool() {
    newer_version_in_revived_pool_is_kept(Planted::Nothing);
}

/// A take during a move gets the version, and nothing is left. Preemption bound 3.
#[test]
fn exchange_and_take_leave_nothing() {
    model(|| {
        let store = ModelStore::new();
        drain_and(&store, Planted::Nothing, |store| assert_eq!(store.take(), Some(1)));
        assert_eq!(store.version(), None);
    });
}

/// Two drains at once, and a store. Preemption bound 3.
#[test]
fn two_exchanges_and_store_keep_newer_version() {
    model(|| {
        let store = ModelStore::new();
        let other = store.clone();
        let first = thread::spawn(move || other.relocate(Planted::Nothing));
        drain_and(&store, Planted::Nothing, |store| store.store(2));
        first.join().unwrap();
        assert_eq!(store.version(), Some(2));
    });
}

#[test]
#[should_panic]
fn planted_no_identity_check_is_found() {
    newer_version_is_kept(Planted::NoIdentityCheck);
}

#[test]
#[should_panic]
fn planted_unpinned_before_exchange_is_found() {
    newer_version_in_revived_pool_is_kept(Planted::UnpinnedBeforeExchange);
}
