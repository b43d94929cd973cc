//! Pools under a store: handles, guards, switches, and destruction.
#![cfg(not(zpool_loom))]

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use common::codec::CodecScript;
use common::pool::PoolScript;
use common::{Look, SPECS, block, builder, check_books, scripted, spec, store_of};
use zpool_core::exec::Manual;
use zswap::manager::PoolState;
use zswap::plugin::{Compressor, CompressorDriver, CreateError, NoBlock, Params, PoolError};
use zswap::{Store, SwitchError, Switched};

#[test]
fn a_handle_of_another_pool_is_refused_and_comes_back() {
    for text in SPECS {
        let store = store_of(text);
        let first = store.manager().current().unwrap();
        store.switch(&spec("reference+lz4")).unwrap();
        let second = store.manager().current().unwrap();
        let handle = first.zpool().insert(b"an object of the first pool").unwrap();
        assert_eq!(second.zpool().read(&handle).unwrap_err(), PoolError::ForeignHandle);
        let refused = second.zpool().free(handle).unwrap_err();
        assert_eq!(refused.error(), &PoolError::ForeignHandle);
        first.zpool().free(refused.into_handle()).unwrap();
        assert_eq!(first.zpool().stats().objects, 0);
    }
}

#[test]
fn b18_a_stale_handle_is_refused() {
    for text in SPECS {
        let store = store_of(text);
        let pool = store.manager().current().unwrap();
        let handle = pool.zpool().insert(b"an object").unwrap();
        let forged = || handle.id().forge();
        pool.zpool().free(forged()).unwrap();
        assert_eq!(pool.zpool().read(&handle).unwrap_err(), PoolError::StaleHandle, "{text}");
        assert_eq!(
            pool.zpool().free(forged()).unwrap_err().error(),
            &PoolError::StaleHandle,
            "{text}"
        );
        pool.zpool().validate().unwrap();
    }
}

/// Blocks freed while a guard holds them stay readable until the guard is dropped.
#[test]
fn freed_block_stays_readable_under_guard() {
    for text in SPECS {
        let store = store_of(text);
        let pool = store.manager().current().unwrap();
        let bytes = block(1, 2000, Look::Noise);
        let handle = pool.zpool().insert(&bytes).unwrap();
        let guard = pool.zpool().read(&handle).unwrap();
        pool.zpool().free(handle).unwrap();
        // Other blocks are stored and removed around it.
        for key in 0..50 {
            store.store(key, block(key + 2, 2000, Look::Noise)).unwrap();
        }
        assert_eq!(*guard, bytes[..], "{text}");
        store.clear();
        assert_eq!(*guard, bytes[..], "{text}");
        // A job that moves objects pins them meanwhile, so objects freed during a move are released
        // when the job ends.
        store.manager().flush().unwrap();
        assert_eq!(pool.zpool().stats().zombies, 1);
        drop(guard);
        let stats = pool.zpool().stats();
        assert_eq!((stats.objects, stats.zombies, stats.payload_bytes), (0, 0, 0), "{text}");
        pool.zpool().validate().unwrap();
    }
}

/// Blocks survive switches, and only the current pool outlives its blocks (I5).
#[test]
fn i5_only_current_pool_survives_its_blocks() {
    let store = store_of(SPECS[0]);
    for (round, text) in SPECS.iter().cycle().take(12).enumerate() {
        store.switch(&spec(text)).unwrap();
        for key in 0..30 {
            let key = round as u64 * 30 + key;
            store.store(key, block(key, 1500, Look::Runs)).unwrap();
        }
    }
    let alive = store.stats().manager.pools_alive;
    assert_eq!(alive, SPECS.len(), "each kept by its blocks, and revived");
    for key in 0..360 {
        assert_eq!(store.load_vec(&key).unwrap().unwrap(), block(key, 1500, Look::Runs));
    }
    check_books(&store);
    store.clear();
    store.manager().flush().unwrap();
    let stats = store.stats();
    assert_eq!((stats.manager.pools_alive, stats.manager.pending_destroy), (1, 0));
    assert_eq!(stats.manager.pools_created, stats.manager.pools_destroyed + 1);
    assert_eq!(stats.payload_bytes, 0);
}

/// Removing the last block of a retired pool destroys it, by way of the executor.
#[test]
fn last_block_of_retired_pool_destroys_it() {
    let (pool, manual) = (PoolScript::new(), Arc::new(Manual::new()));
    let store = scripted(pool.clone(), CodecScript::new())
        .executor(manual.clone())
        .max_pending(4)
        .build()
        .unwrap();
    store.store(1, block(1, 500, Look::Runs)).unwrap();
    store.store(2, block(2, 500, Look::Runs)).unwrap();
    assert!(matches!(store.switch(&spec("reference+rle")).unwrap(), Switched::Created(_)));
    assert_eq!(store.take_vec(&1).unwrap().unwrap(), block(1, 500, Look::Runs));
    assert_eq!(store.manager().pools()[0].state, PoolState::Retired);
    // The new block goes to the current pool, and replacing the old one frees the last object of
    // the other pool.
    store.store(2, block(3, 500, Look::Runs)).unwrap();
    assert_eq!((pool.live(), store.manager().pools()[0].state), (0, PoolState::Dying));
    assert_eq!(store.stats().manager.pools_destroyed, 0, "the job has not run yet");
    manual.run_all();
    let stats = store.stats().manager;
    assert_eq!((stats.pools_destroyed, stats.destroyed_on_caller, stats.pools_alive), (1, 0, 1));
    assert_eq!(pool.dropped_with_objects.load(Ordering::SeqCst), 0);
}

/// Invalidating the last block of a retired pool does not block (B1).
#[test]
fn b1_invalidating_last_block_does_not_block() {
    for text in SPECS {
        let store = store_of(text);
        store.store(1, block(1, 500, Look::Noise)).unwrap();
        store.store(2, block(2, 500, Look::Noise)).unwrap();
        store.switch(&spec("reference+lz4")).unwrap();
        let before = zpool_core::set_check_policy(zpool_core::CheckPolicy::Panic);
        let section = NoBlock::enter();
        assert!(store.invalidate(&1) && store.invalidate(&2));
        drop(section);
        zpool_core::set_check_policy(before);
        store.manager().flush().unwrap();
        assert_eq!(store.stats().manager.pools_alive, 1);
    }
}

/// A dropped store leaves the objects to their pools, which the executor destroys as a whole.
#[test]
fn dropped_store_leaves_objects_to_pools() {
    let (pool, manual) = (PoolScript::new(), Arc::new(Manual::new()));
    let store =
        scripted(pool.clone(), CodecScript::new()).executor(manual.clone()).build().unwrap();
    for key in 0..100 {
        store.store(key, block(key, 700, Look::Runs)).unwrap();
        if key == 50 {
            store.switch(&spec("reference+rle")).unwrap();
            store.switch(&spec("scripted+rle(n=2)")).unwrap();
        }
    }
    let second = store.clone();
    drop(store);
    assert_eq!(pool.live(), 100, "a clone is left");
    drop(second);
    let with_objects = || pool.dropped_with_objects.load(Ordering::SeqCst);
    assert_eq!((pool.live(), with_objects()), (100, 0), "no object is freed one by one");
    manual.run_all();
    assert_eq!((with_objects(), zpool_manager::pools_leaked()), (2, 0));
}

/// A store that wipes what it frees wipes everything when it is dropped.
#[test]
fn dropped_store_that_wipes_frees_every_object() {
    let (pool, manual) = (PoolScript::new(), Arc::new(Manual::new()));
    let inner = Arc::new(zpool_zsmalloc::ZsmallocDriver);
    let driver = Arc::new(common::pool::ScriptedDriver { inner, script: pool.clone() });
    let builder = Store::<u64>::builder().allocator(driver).spec(spec("scripted+lz4"));
    let store = builder.executor(manual.clone()).wipe_on_free(true).build().unwrap();
    (0..100).for_each(|key| store.store(key, block(key, 700, Look::Runs)).unwrap());
    drop(store);
    assert_eq!((pool.live(), pool.dropped_with_objects.load(Ordering::SeqCst)), (0, 0));
    manual.run_all();
}

/// Each parameter can be switched alone, and errors change nothing.
#[test]
fn one_parameter_at_a_time_and_failed_switches() {
    let store = store_of("reference+rle");
    let named = |text: &str| text.parse().unwrap();
    store.set_compressor(&named("lz4")).unwrap();
    assert_eq!(store.manager().current().unwrap().spec().to_string(), "reference+lz4");
    store.set_allocator(&named("zsmalloc")).unwrap();
    store.set_compressor(&named("zip")).unwrap_err();
    store.set_allocator(&named("reference(chain=3)")).unwrap_err();
    assert_eq!(store.manager().current().unwrap().spec().to_string(), "zsmalloc+lz4");
    assert!(matches!(store.switch(&spec("zsmalloc+lz4")).unwrap(), Switched::Unchanged(_)));
    store.store(1, block(1, 4096, Look::Runs)).unwrap();
    check_books(&store);
}

#[test]
fn a_page_source_of_large_frames_will_do() {
    let source = Arc::new(zswap::plugin::HeapSource::new(16 << 10));
    let store = builder().spec(spec("zsmalloc+lz4")).page_source(source).build().unwrap();
    for key in 0..300 {
        store.store(key, block(key, 4096, Look::Runs)).unwrap();
    }
    for key in 0..300 {
        assert_eq!(store.load_vec(&key).unwrap().unwrap(), block(key, 4096, Look::Runs));
    }
    check_books(&store);
}

/// A store from inside a plug-in's constructor goes to the pool that is current (B34).
#[test]
fn b34_store_from_constructor_uses_current_pool() {
    #[derive(Debug)]
    struct Reentrant(OnceLock<Store<u64>>);
    impl CompressorDriver for Reentrant {
        fn name(&self) -> &str {
            "reentrant"
        }
        fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
            let store = self.0.get().expect("set before it is used");
            store
                .store(1, block(1, 700, Look::Runs))
                .map_err(|error| CreateError::Failed(error.to_string()))?;
            let switched = store.switch(&spec("reference+lz4"));
            assert_eq!(switched, Err(SwitchError::InsideConstructor));
            zpool_lz4::Lz4Driver.open(params)
        }
    }
    let driver = Arc::new(Reentrant(OnceLock::new()));
    let store = builder().spec(spec("reference+rle")).compressor(driver.clone()).build().unwrap();
    driver.0.set(store.clone()).unwrap();
    let first = store.manager().current().unwrap().id();
    store.switch(&spec("reference+reentrant")).unwrap();
    assert_ne!(store.manager().current().unwrap().id(), first);
    assert_eq!(store.load_vec(&1).unwrap().unwrap(), block(1, 700, Look::Runs));
    let pools = store.manager().pools();
    let holder = pools.iter().find(|pool| pool.references == 1).expect("one block is stored");
    assert_eq!(holder.label.id, first);
}
