//! With thousands of live retired pools, a store or a switch takes no longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::*;
use parking_lot::Mutex;
use zpool_core::exec::{Executor, Inline, Manual};
use zpool_core::spec::Params;
use zpool_core::{
    Capabilities, CreateError, FreeError, Handle, PoolConfig, PoolError, PoolId, PoolStats,
    ReadGuard, Violation, ZPool, ZPoolDriver,
};
use zpool_manager::{PoolManager, PoolState, Switched};

/// Counts how often pools are asked for their bytes. The next question drops the object kept here.
#[derive(Debug, Default, Clone)]
struct Asked(Arc<AtomicUsize>, Arc<Mutex<Option<Stored>>>);

#[derive(Debug)]
struct AskedPool(Box<dyn ZPool>, Asked);

impl ZPoolDriver for Asked {
    fn name(&self) -> &str {
        "asked"
    }

    fn canonical(&self, params: &Params) -> Result<Params, CreateError> {
        Ok(params.clone())
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        let script = Script::new();
        let pool = ScriptedDriver { name: "asked", script }.create(config)?;
        Ok(Box::new(AskedPool(pool, self.clone())))
    }
}

impl ZPool for AskedPool {
    fn id(&self) -> PoolId {
        self.0.id()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        self.0.insert(object)
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        self.0.read(handle)
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        self.0.free(handle)
    }

    /// The objects' bytes, as the scripted pool counts them. Then drops what the test left here.
    fn bytes_held(&self) -> usize {
        self.1.0.fetch_add(1, Ordering::Relaxed);
        let bytes = self.0.bytes_held();
        let released = self.1.1.lock().take();
        drop(released);
        bytes
    }

    fn stats(&self) -> PoolStats {
        self.0.stats()
    }

    fn validate(&self) -> Result<(), Violation> {
        self.0.validate()
    }
}

/// Makes a manager with `pools` pools. One object of 100 bytes keeps each of them, except for the
/// current one.
fn manager_with(pools: usize, executor: Arc<dyn Executor>) -> (PoolManager, Asked, Vec<Stored>) {
    let (asked, registry) = (Asked::default(), registry(&Script::new()));
    registry.register_allocator(Arc::new(asked.clone())).unwrap();
    let manager = PoolManager::builder(registry).executor(executor).build_idle().unwrap();
    let mut kept = Vec::new();
    for n in 0..pools {
        if n > 0 {
            kept.push(store(&manager, &[7; 100]));
        }
        manager.switch(&spec(&format!("asked(n={n})+x"))).unwrap();
    }
    (manager, asked, kept)
}

/// With thousands of retired pools, an estimate of their bytes asks few of them, is never too low,
/// and becomes exact soon.
#[test]
fn bytes_of_other_pools_are_found_without_asking_all() {
    const POOLS: usize = 3000;
    let (manager, asked, mut kept) = manager_with(POOLS, Arc::new(Inline::new()));
    let current = manager.current().unwrap();
    let settle = || {
        let before = asked.0.load(Ordering::Relaxed);
        let mut bytes = 0;
        for _ in 0..=POOLS / 8 {
            bytes = manager.allocator_bytes_except(&current);
        }
        let asks = asked.0.load(Ordering::Relaxed) - before;
        // Up to 24 per estimate, and all of them once or twice. Asking all each time would be a
        // million.
        assert!(asks < 40 * POOLS / 8 + 2 * POOLS, "{asks} asked in {} looks", POOLS / 8);
        bytes
    };
    assert_eq!(settle(), 100 * (POOLS - 1));
    assert_eq!(manager.bytes_held(), 100 * (POOLS - 1));
    // A destroyed pool takes its bytes off the sum at once.
    kept.drain(..1000).for_each(Stored::free);
    assert_eq!(manager.allocator_bytes_except(&current), 100 * (POOLS - 1001));
    // A pool that lives on is asked eventually, and until then counts with its previous answer.
    for stored in &mut kept {
        let handle = stored.pool.zpool().insert(&[7; 50]).unwrap();
        stored.pool.zpool().free(std::mem::replace(&mut stored.handle, handle)).unwrap();
    }
    assert!(manager.allocator_bytes_except(&current) >= 50 * (POOLS - 1001));
    assert_eq!(settle(), 50 * (POOLS - 1001));
    kept.into_iter().for_each(Stored::free);
    assert_eq!((manager.allocator_bytes_except(&current), manager.stats().pools_alive), (0, 1));
}

/// The exact sum asks each pool once, as long as none is released meanwhile. One that is released
/// counts once, wherever the walk is at that moment.
#[test]
fn bytes_of_all_pools_ask_each_once() {
    const POOLS: usize = 6;
    for released in 0..POOLS - 1 {
        let manual = Arc::new(Manual::new());
        let (manager, asked, mut kept) = manager_with(POOLS, manual.clone());
        let asks = |expected: usize| {
            let before = asked.0.load(Ordering::Relaxed);
            assert_eq!(manager.bytes_held(), expected);
            asked.0.load(Ordering::Relaxed) - before
        };
        assert_eq!(asks(500), POOLS);
        // Its object goes with it, and its bytes are pending from then on.
        *asked.1.lock() = Some(kept.remove(released));
        // The walk during which it is released, a question on the release path, and another walk.
        // The first pool is released while it is asked itself, so the first walk counts it.
        let first_walk = if released == 0 { POOLS } else { POOLS - 1 };
        assert_eq!(asks(500), first_walk + 1 + (POOLS - 1), "pool {released}");
        assert_eq!((manager.pending_bytes(), manager.stats().pools_alive), (100, POOLS));
        assert_eq!(asks(500), POOLS - 1);
        manual.run_all();
        assert_eq!((manager.pending_bytes(), asks(400)), (0, POOLS - 1));
        drop(kept);
        drop(manager);
    }
}

/// A retired pool among many, into which a batch still stores, is counted by the next estimate.
#[test]
fn bytes_stored_into_a_pool_just_retired_are_seen() {
    let (manager, _, kept) = manager_with(500, Arc::new(Inline::new()));
    let late = manager.current().unwrap();
    manager.switch(&spec("asked(n=late)+x")).unwrap();
    let current = manager.current().unwrap();
    let before = manager.allocator_bytes_except(&current);
    let handle = late.zpool().insert(&[7; 1000]).unwrap();
    assert_eq!(manager.allocator_bytes_except(&current), before + 1000);
    // If the exception is not the current pool, the current one counts.
    let more = current.zpool().insert(&[7; 300]).unwrap();
    assert_eq!(manager.allocator_bytes_except(&late), before + 300);
    late.zpool().free(handle).unwrap();
    current.zpool().free(more).unwrap();
    drop(kept);
}

/// A switch among thousands of pools revives the one of its spec, and visits no other pool.
#[test]
fn revival_among_thousands_finds_its_spec() {
    let (manager, asked, kept) = manager_with(2000, Arc::new(Inline::new()));
    for n in [0, 1234, 1998, 7] {
        let expected = kept[n].pool.id();
        let before = asked.0.load(Ordering::Relaxed);
        let spec = spec(&format!("asked(n={n})+x"));
        assert_eq!(manager.switch(&spec).unwrap(), Switched::Revived(expected));
        assert!(asked.0.load(Ordering::Relaxed) - before < 10);
        assert_eq!(manager.switch(&spec).unwrap(), Switched::Unchanged(expected));
    }
    let pools = manager.pools();
    assert_eq!(pools.iter().filter(|pool| pool.state == PoolState::Current).count(), 1);
    assert_eq!(pools.iter().filter(|pool| pool.retired_for.is_none()).count(), 1);
    assert!(pools.is_sorted_by_key(|pool| pool.label.id.get()), "oldest first");
}

/// The sum is exact after any interleaving of releases, switches, revivals and estimates.
#[test]
fn bytes_are_exact_after_races() {
    let manual = Arc::new(Manual::new());
    let (manager, _, kept) = manager_with(300, manual.clone());
    let kept = parking_lot::Mutex::new(kept);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (manager, kept) = (&manager, &kept);
            scope.spawn(move || {
                for n in 0..150 {
                    let stored = kept.lock().pop();
                    stored.into_iter().for_each(Stored::free);
                    let stored = store(manager, &[7; 10]);
                    kept.lock().insert(0, stored);
                    if n % 5 == 0 {
                        manager.switch(&spec(&format!("asked(n={})+x", n * (thread + 1)))).unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..2000 {
                let current = manager.current().unwrap();
                manager.allocator_bytes_except(&current);
            }
        });
    });
    let current = manager.current().unwrap();
    let mut last = 0;
    for _ in 0..=manager.stats().pools_alive / 8 {
        last = manager.allocator_bytes_except(&current);
    }
    let own = current.zpool().bytes_held();
    assert_eq!(last + own, manager.bytes_held() - manager.context_bytes());
    drop(kept);
    manager.flush().unwrap();
    assert_eq!(manager.stats().pending_destroy_bytes, 0);
    assert_eq!(manager.bytes_held() - manager.context_bytes(), current.zpool().bytes_held());
}
