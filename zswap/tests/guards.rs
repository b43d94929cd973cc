//! Guards that panic when they are dropped, and reads that an allocator cannot count.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::common::codec::CodecScript;
use crate::common::pool::{OnRead, PoolScript};
use crate::common::{Look, block, check_books, scripted, spec};
use zswap::plugin::zpool_core::NoBlock;
use zswap::plugin::{Manual, PoolError};
use zswap::{EncodedBlock, Error, Store};

const KEYS: u64 = 12;

fn expected(key: u64) -> Vec<u8> {
    block(key, 3000, if key.is_multiple_of(2) { Look::Runs } else { Look::Noise })
}

/// Builds a store with blocks under [`KEYS`] keys, and a value of several blocks under the next
/// one.
fn rig() -> (Arc<PoolScript>, Store<u64>) {
    let pool = PoolScript::new();
    let store = scripted(pool.clone(), CodecScript::new()).max_value_len(1 << 16).build().unwrap();
    (0..KEYS).for_each(|key| store.store(key, expected(key)).unwrap());
    store.store(KEYS, block(KEYS, 20_000, Look::Runs)).unwrap();
    (pool, store)
}

/// No kind of load passes on a panic of unpin. The loaded bytes are right, and the panic is
/// counted.
#[test]
fn load_panicking_unpin_is_counted() {
    let (pool, store) = rig();
    let mut counted = 0;
    for key in [0, 1] {
        let mut buffer = [0; 4096];
        let loads: [&mut dyn FnMut() -> Option<usize>; 5] = [
            &mut || store.load(&key, &mut buffer).unwrap(),
            &mut || {
                store
                    .load_vec(&key)
                    .unwrap()
                    .filter(|bytes| *bytes == expected(key))
                    .map(|b| b.len())
            },
            &mut || {
                store
                    .load_with(&key, |bytes| (bytes == expected(key)).then_some(3000))
                    .unwrap()
                    .flatten()
            },
            &mut || {
                store
                    .peek_vec(&key)
                    .unwrap()
                    .filter(|bytes| *bytes == expected(key))
                    .map(|b| b.len())
            },
            &mut || {
                store
                    .export(&key, |form| assert!(!matches!(form, EncodedBlock::SameFilled { .. })))
                    .unwrap()
            },
        ];
        for load in loads {
            pool.unpin_panics(1);
            assert_eq!(load(), Some(3000));
            counted += 1;
            assert_eq!((store.stats().unpins_panicked, pool.unpin_panics_left()), (counted, 0));
        }
        assert!(buffer.starts_with(&expected(key)));
    }
    // Each of the five parts of a long value.
    pool.unpin_panics(5);
    assert_eq!(store.load_vec(&KEYS).unwrap().unwrap(), block(KEYS, 20_000, Look::Runs));
    pool.unpin_panics(5);
    assert_eq!(store.export(&KEYS, |_| ()).unwrap(), Some(20_000));
    assert_eq!(store.stats().unpins_panicked, counted + 10);
    check_books(&store);
}

/// A take whose unpin panics returns the block, because it has removed it.
#[test]
fn take_panicking_unpin_returns_block() {
    let (pool, store) = rig();
    for key in 0..KEYS {
        pool.unpin_panics(1);
        assert_eq!(store.take_vec(&key).unwrap().unwrap(), expected(key));
        assert!(!store.contains(&key));
    }
    let stats = store.stats();
    assert_eq!((stats.taken, stats.unpins_panicked, stats.free_failed), (KEYS, KEYS, 0));
    check_books(&store);
}

/// A load that fails for another reason reports that one, whatever its unpin does.
#[test]
fn load_error_and_panicking_unpin_is_the_error() {
    let (pool, store) = rig();
    for key in [0, 1] {
        pool.unpin_panics(2);
        let needed = Error::BufferTooSmall { needed: 3000, given: 10 };
        assert_eq!(store.load(&key, &mut [0; 10]).unwrap_err(), needed);
        assert_eq!(store.take(&key, &mut [0; 10]).unwrap_err(), needed);
        assert_eq!(pool.unpin_panics_left(), 0);
        assert!(store.contains(&key));
    }
    check_books(&store);
}

/// All guards of a group panic: a second panic while the first unwinds would abort the process.
#[test]
fn load_many_panicking_unpins_are_counted() {
    let (pool, store) = rig();
    let keys: Vec<u64> = (0..KEYS).collect();
    let mut buffers = vec![[0; 4096]; keys.len()];
    pool.unpin_panics(keys.len());
    let results = store.load_many(&keys, &mut buffers);
    assert!(results.iter().all(|result| *result == Ok(Some(3000))));
    for (key, buffer) in keys.iter().zip(&buffers) {
        assert!(buffer.starts_with(&expected(*key)));
    }
    assert_eq!(store.stats().unpins_panicked, KEYS);
}

/// A buffer of the caller's that panics unwinds through the guards of its group, which all panic as
/// well.
#[test]
fn load_many_panicking_buffer_and_unpins_unwinds() {
    struct Refuses;
    impl AsMut<[u8]> for Refuses {
        fn as_mut(&mut self) -> &mut [u8] {
            panic!("a buffer that panics");
        }
    }
    let (pool, store) = rig();
    let keys: Vec<u64> = (0..KEYS).collect();
    pool.unpin_panics(100);
    let loading = catch_unwind(AssertUnwindSafe(|| {
        let mut buffers: Vec<Refuses> = keys.iter().map(|_| Refuses).collect();
        store.load_many(&keys, &mut buffers)
    }));
    assert_eq!(loading.unwrap_err().downcast_ref::<&str>(), Some(&"a buffer that panics"));
    pool.unpin_panics(0);
    assert!(keys.iter().all(|key| store.load_vec(key).unwrap().unwrap() == expected(*key)));
}

/// `retain` asks about every block, and removes it or not, whatever its unpin does.
#[test]
fn retain_panicking_unpin_counts() {
    let (pool, store) = rig();
    pool.unpin_panics(KEYS as usize);
    let mut asked = 0;
    let removed = store.retain(|key, _| {
        asked += 1;
        !key.is_multiple_of(3)
    });
    assert_eq!((asked, removed, store.len()), (13, 5, 8));
    assert_eq!(store.stats().unpins_panicked, KEYS);
    check_books(&store);
}

/// The closures of `export` and `retain` panic while a guard is held that panics, too: one panic
/// comes out.
#[test]
fn caller_panic_and_panicking_unpin_unwinds() {
    let (pool, store) = rig();
    pool.unpin_panics(2);
    let calls: [&dyn Fn(); 2] = [&|| drop(store.export(&0, |_| panic!("the caller's"))), &|| {
        assert_eq!(store.retain(|_, _| panic!("the caller's")), 0)
    }];
    for call in calls {
        let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the caller's"));
    }
    pool.unpin_panics(0);
    assert_eq!(store.len() as u64, KEYS + 1);
    check_books(&store);
}

/// If an allocator cannot count one more reader, every kind of load waits and succeeds. It counts
/// once.
#[test]
fn load_too_many_readers_waits() {
    let (pool, store) = rig();
    let mut buffer = [0; 4096];
    for key in [0, 1, KEYS] {
        let len = if key == KEYS { 20_000 } else { 3000 };
        let loads: [&dyn Fn() -> Option<usize>; 4] = [
            &|| store.load_vec(&key).unwrap().map(|bytes| bytes.len()),
            &|| store.peek_vec(&key).unwrap().map(|bytes| bytes.len()),
            &|| store.export(&key, |_| ()).unwrap(),
            &|| store.load_with(&key, |bytes| bytes.len()).unwrap(),
        ];
        for load in loads {
            pool.crowded_reads(11);
            assert_eq!((load(), pool.crowded_reads_left()), (Some(len), 0));
        }
    }
    pool.crowded_reads(11);
    assert_eq!(store.load_many(&[0], &mut [&mut buffer]), [Ok(Some(3000))]);
    assert!(buffer.starts_with(&expected(0)));
    let stats = store.stats();
    assert_eq!((stats.loads_hit, stats.peeks_hit, stats.read_failed), (7, 6, 0));
    for key in [0, KEYS] {
        pool.crowded_reads(11);
        assert!(store.take_vec(&key).unwrap().is_some());
    }
    assert_eq!((store.stats().taken, store.stats().read_failed), (2, 0));
    check_books(&store);
}

/// A wait in vain ends with the allocator's error. Inside a section that must not block, there is
/// no wait.
#[test]
fn load_too_many_readers_for_ever_is_an_error() {
    let (pool, store) = rig();
    let crowded = Error::Pool(PoolError::TooManyReaders);
    for key in [0, KEYS] {
        pool.crowded_reads(usize::MAX);
        assert_eq!(store.load_vec(&key).unwrap_err(), crowded);
        pool.crowded_reads(1);
        let section = NoBlock::enter();
        let error = store.load(&key, &mut [0; 20_000]).unwrap_err();
        drop(section);
        assert_eq!((error, pool.crowded_reads_left()), (crowded.clone(), 0));
        assert!(store.load_vec(&key).unwrap().is_some());
    }
    assert_eq!((store.stats().loads_hit, store.stats().read_failed), (6, 4));
}

/// `retain` visits a block that cannot be pinned, and the block is replaced so often meanwhile that
/// its handle is reused: the newer block stays. zsmalloc reuses a handle after 512 uses of a slot;
/// two slots alternate here.
#[test]
fn retain_unpinned_replaced_often_keeps_newer() {
    let (pool, manual) = (PoolScript::new(), Arc::new(Manual::new()));
    let over = Arc::new(crate::common::pool::ScriptedDriver {
        inner: Arc::new(zpool_zsmalloc::ZsmallocDriver),
        script: pool.clone(),
    });
    let store: Store<u64> = Store::builder()
        .allocator(over)
        .spec(spec("scripted+lz4"))
        .executor(manual)
        .checksums(true)
        .build()
        .unwrap();
    for replacements in (1..4).chain(510..515).chain(1022..1028).chain(2046..2051) {
        for what in [OnRead::Fail, OnRead::Panic] {
            store.store(1, block(0, 1000, Look::Noise)).unwrap();
            pool.on_read(what);
            let removed = store.retain(|_, _| {
                for seed in 1..=replacements {
                    store.store(1, block(seed, 1000, Look::Noise)).unwrap();
                }
                false
            });
            pool.on_read(OnRead::Work);
            let newest = block(replacements, 1000, Look::Noise);
            assert_eq!(
                (removed, store.take_vec(&1)),
                (0, Ok(Some(newest))),
                "{replacements}, {what:?}"
            );
        }
    }
    check_books(&store);
}

/// The newer block also stays if `invalidate`, `clear` or a same-filled block removes the older one
/// in between.
#[test]
fn retain_unpinned_gone_and_back_keeps_newer() {
    let pool = PoolScript::new();
    let over = Arc::new(crate::common::pool::ScriptedDriver {
        inner: Arc::new(zpool_zsmalloc::ZsmallocDriver),
        script: pool.clone(),
    });
    let store: Store<u64> = Store::builder()
        .allocator(over)
        .spec(spec("scripted+lz4"))
        .executor(Arc::new(Manual::new()))
        .max_pending(10_000)
        .build()
        .unwrap();
    let away: [&dyn Fn(); 3] = [&|| assert!(store.invalidate(&1)), &|| store.clear(), &|| {
        // A block in no pool, and back.
        store.store(1, [7; 100]).unwrap();
    }];
    for (n, away) in away.into_iter().enumerate() {
        for rounds in [1, 511, 512, 513, 1024] {
            store.store(1, block(0, 1000, Look::Noise)).unwrap();
            pool.on_read(OnRead::Fail);
            let removed = store.retain(|_, _| {
                for seed in 1..=rounds {
                    away();
                    store.store(1, block(seed, 1000, Look::Noise)).unwrap();
                }
                false
            });
            pool.on_read(OnRead::Work);
            let newest = Some(block(rounds, 1000, Look::Noise));
            assert_eq!((removed, store.load_vec(&1)), (0, Ok(newest)), "way {n}, {rounds} rounds");
        }
    }
}

/// A block that cannot be pinned is removed if `keep` rejects it, even in a nested `retain`.
#[test]
fn retain_unpinned_not_replaced_removes() {
    let (pool, store) = rig();
    pool.on_read(OnRead::Fail);
    let mut inner = 0;
    let removed = store.retain(|&key, _| {
        if key == 0 {
            inner += store.retain(|&key, _| key != 5);
        }
        key.is_multiple_of(2)
    });
    pool.on_read(OnRead::Work);
    assert_eq!((removed + inner, store.len()), (6, 7));
    assert!((0..=KEYS).all(|key| store.contains(&key) == key.is_multiple_of(2)));
    check_books(&store);
}
