//! The order of the index's locks and an allocator's own: an allocator whose `free` waits until no
//! guard is held does not wait for ever.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use crate::common::{Constant, TestRng, builder, spec, stamped, unstamp};
use zpool_conformance::ReferenceDriver;
use zpool_core::{HandleId, Pins};
use zswap::Store;
use zswap::plugin::{
    Capabilities, CreateError, FreeError, Handle, Params, PoolConfig, PoolError, PoolId, PoolStats,
    ReadGuard, Violation, ZPool, ZPoolDriver,
};

/// Inserts that a pool has room for. Freed places are not used again, so that a guard can borrow
/// from the pool.
const INSERTS: usize = 40_000;

/// A lock that all guards of a pool share, and that a `free` takes exclusively. A reader does not
/// wait for a `free` that waits itself.
#[derive(Debug, Default)]
struct Lock {
    guards: Mutex<usize>,
    none_left: Condvar,
}

impl Lock {
    fn share(&self) {
        *self.guards.lock().unwrap() += 1;
    }

    fn alone<R>(&self, work: impl FnOnce() -> R) -> R {
        let none =
            self.none_left.wait_while(self.guards.lock().unwrap(), |guards| *guards > 0).unwrap();
        let result = work();
        drop(none);
        result
    }
}

impl Pins for Lock {
    fn unpin(&self, _: u64) {
        let mut guards = self.guards.lock().unwrap();
        *guards -= 1;
        if *guards == 0 {
            self.none_left.notify_all();
        }
    }
}

/// A pool with such a lock. Another pool has its handles and accounts.
#[derive(Debug)]
struct LockingPool {
    inner: Box<dyn ZPool>,
    lock: Lock,
    objects: Box<[OnceLock<Box<[u8]>>]>,
    inserted: AtomicUsize,
    places: Mutex<HashMap<HandleId, usize>>,
}

impl ZPool for LockingPool {
    fn id(&self) -> PoolId {
        self.inner.id()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        let at = self.inserted.fetch_add(1, Ordering::Relaxed);
        let place = self.objects.get(at).ok_or(PoolError::OutOfMemory)?;
        place.set(object.into()).expect("every place is used once");
        let handle = self.inner.insert(object)?;
        self.places.lock().unwrap().insert(handle.id(), at);
        Ok(handle)
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        // The handle is in the index, whose shard is locked, so no thread frees it before this
        // guard is dropped.
        drop(self.inner.read(handle)?);
        let at = self.places.lock().unwrap()[&handle.id()];
        let object = self.objects[at].get().ok_or(PoolError::StaleHandle)?;
        self.lock.share();
        Ok(ReadGuard::pinned(object, &self.lock, 0))
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        self.lock.alone(|| {
            self.places.lock().unwrap().remove(&handle.id());
            self.inner.free(handle)
        })
    }

    fn bytes_held(&self) -> usize {
        self.inner.bytes_held()
    }

    fn stats(&self) -> PoolStats {
        self.inner.stats()
    }

    fn validate(&self) -> Result<(), Violation> {
        self.inner.validate()
    }
}

#[derive(Debug)]
struct LockingDriver;

impl ZPoolDriver for LockingDriver {
    fn name(&self) -> &str {
        "locking"
    }

    fn canonical(&self, params: &Params) -> Result<Params, CreateError> {
        ReferenceDriver.canonical(params)
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        Ok(Box::new(LockingPool {
            inner: ReferenceDriver.create(config)?,
            lock: Lock::default(),
            objects: (0..INSERTS).map(|_| OnceLock::new()).collect(),
            inserted: AtomicUsize::new(0),
            places: Mutex::default(),
        }))
    }
}

/// Runs calls that pin, free or do both, on keys that all threads share.
fn storm(store: &Store<u64, Constant>, thread: u64) {
    const KEYS: usize = 8;
    let mut rng = TestRng::new(thread + 1);
    for round in 0..4_000 {
        let key = rng.below(KEYS) as u64;
        let mine =
            |bytes: Option<Vec<u8>>| assert!(bytes.is_none_or(|bytes| unstamp(&bytes).0 == key));
        match rng.below(16) {
            // Every fourth value is longer than a block.
            0..6 => store
                .store(key, stamped(key, round, if round % 4 == 0 { 700 } else { 200 }))
                .unwrap(),
            6..10 => mine(store.take_vec(&key).unwrap()),
            10..12 => mine(store.load_vec(&key).unwrap()),
            12 => drop(store.load_many(&[0, 1, 2, 3, 4, 5, 6, 7], &mut [[0; 700]; KEYS])),
            13 => _ = store.retain(|key, len| key.is_multiple_of(2) || len < 500),
            14 if round % 64 == 0 => store.clear(),
            _ => _ = store.invalidate(&key),
        }
    }
}

/// No thread frees under a lock of the index or with a guard of its own (B20).
#[test]
fn b20_free_runs_without_lock_or_own_guard() {
    let (ended, end) = channel();
    // Not joined, because the test could not fail if threads waited for each other.
    std::thread::spawn(move || {
        let builder = builder().allocator(Arc::new(LockingDriver)).spec(spec("locking+rle"));
        let store = builder.block_size(256).max_value_len(1024).hasher(Constant).build().unwrap();
        std::thread::scope(|scope| {
            (0..4).for_each(|thread| {
                _ = scope.spawn({
                    let store = store.clone();
                    move || storm(&store, thread)
                })
            });
        });
        ended.send(store).unwrap();
    });
    let store =
        end.recv_timeout(Duration::from_secs(60)).expect("threads fail or wait for each other");
    let stats = store.stats();
    assert_eq!(
        (stats.rejected.total(), stats.free_failed, stats.read_failed),
        (0, 0, 0),
        "{stats}"
    );
    assert!(stats.taken > 500 && stats.invalidated > 500, "{stats}");
    store.clear();
    assert_eq!((store.stats().current.objects, store.stats().payload_bytes), (0, 0));
}
