//! The index under keys in any order, limits that change, and pools in any number.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;

use crate::common::codec::CodecScript;
use crate::common::pool::PoolScript;
use crate::common::{Constant, Look, block, builder, check_books, spec};
use zswap::{AtLimit, SequentialKeys, Store};

/// Fills a store, copies it to another one in the order of its table, and empties and fills it
/// again in that order.
fn copy_in_table_order<S: BuildHasher + Clone>(hasher: S, keys: u64) {
    let store = |hasher| Store::<u64>::builder().hasher(hasher).build().unwrap();
    let (first, second) = (store(hasher.clone()), store(hasher));
    (0..keys).for_each(|key| first.store(key, [7; 8]).unwrap());
    let order: Vec<u64> = first.keys().collect();
    assert_eq!(order.len() as u64, keys);
    for &key in &order {
        second.store(key, key.to_le_bytes()).unwrap();
    }
    first.clear();
    for key in order {
        first.store(key, key.to_le_bytes()).unwrap();
    }
    for store in [first, second] {
        let mut bytes = [0; 8];
        assert!(
            (0..keys).all(
                |key| store.load(&key, &mut bytes) == Ok(Some(8)) && bytes == key.to_le_bytes()
            )
        );
        check_books(&store);
    }
}

/// In optimized builds, tests do four times as much.
const FULL: u64 = if cfg!(debug_assertions) { 1 } else { 4 };

/// Keys in the order of the table that they come from are stored like any others.
#[test]
fn keys_in_table_order_are_stored() {
    copy_in_table_order(RandomState::new(), 80_000 * FULL);
    copy_in_table_order(SequentialKeys::default(), 80_000 * FULL);
}

/// Keys that are multiples of a number, of any size, are stored like any others.
#[test]
fn keys_of_any_stride_are_stored() {
    for stride in [1, 8, 64, 4096, 1 << 20, 1 << 32, 1 << 48, 0x9E37_79B9_7F4A_7C15, 17_426_472] {
        let store = Store::<u64>::builder().hasher(SequentialKeys::default()).build().unwrap();
        for n in 0..30_000u64 {
            store.store(n.wrapping_mul(stride), n.to_le_bytes()).unwrap();
        }
        let mut bytes = [0; 8];
        for n in 0..30_000u64 {
            let loaded = store.load(&n.wrapping_mul(stride), &mut bytes);
            // Multiples of a power of two wrap around to the same keys.
            assert_eq!(loaded, Ok(Some(8)), "{n} times {stride}");
        }
    }
}

/// Keys of one hash are kept, more than a segment takes.
#[test]
fn keys_of_one_hash_are_stored() {
    let store = Store::<u64>::builder().hasher(Constant).build().unwrap();
    (0..4_000u64).for_each(|key| store.store(key, block(key, 40, Look::Noise)).unwrap());
    for key in (0..4_000).rev() {
        assert_eq!(store.load_vec(&key).unwrap().unwrap(), block(key, 40, Look::Noise));
    }
    (0..4_000).step_by(2).for_each(|key| assert!(store.invalidate(&key)));
    assert_eq!(store.keys().filter(|key| key % 2 == 1).count(), 2_000);
    check_books(&store);
}

/// A limit that was lower for a moment leaves an index that takes every key.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long; CI runs it optimized")]
fn lowered_limit_leaves_usable_index() {
    let builder =
        Store::<u64>::builder().limit_bytes((8 << 20) * FULL as usize).at_limit(AtLimit::Evict);
    let store = builder.build().unwrap();
    let mut keys = 0..;
    let mut put = |blocks: usize| {
        keys.by_ref().take(blocks).for_each(|key: u64| {
            store.store(key, block(key, 9 + key as usize % 4, Look::Noise)).unwrap();
        });
    };
    put(165_000 * FULL as usize);
    store.set_limit(Some((2 << 20) * FULL as usize)).unwrap();
    store.set_limit(Some((16 << 20) * FULL as usize)).unwrap();
    put(150_000 * FULL as usize);
    check_books(&store);
}

/// An index that has become empty is small again, by itself, as soon as something is stored.
#[test]
fn emptied_index_becomes_small() {
    let store = Store::<u64>::builder().build().unwrap();
    let empty = store.stats().index_bytes;
    (0..200_000u64).for_each(|key| store.store(key, [1; 8]).unwrap());
    let full = store.stats().index_bytes;
    assert!((0..200_000).all(|key| store.invalidate(&key)));
    // Each shard shrinks when something is stored in it.
    (0..20_000u64).for_each(|key| store.store(key, [2; 8]).unwrap());
    (0..20_000u64).for_each(|key| assert!(store.invalidate(&key)));
    let emptied = store.stats().index_bytes - empty;
    assert!(emptied * 5 < full - empty, "{empty}, {full}, {emptied}");
    store.clear();
    assert_eq!(store.stats().index_bytes, empty, "all of it was counted");
}

/// A shard whose blocks are in more pools than it has numbers for stores and loads as before.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long; CI runs it optimized")]
fn blocks_in_thousands_of_pools_are_stored() {
    let store = builder().hasher(Constant).max_pending(10_000).build().unwrap();
    let pools = 2_200u64;
    for key in 0..pools {
        store.switch(&spec(&format!("reference+rle(n={key})"))).unwrap();
        store.store(key, block(key, 100, Look::Noise)).unwrap();
        store.store(key + pools, block(key + 1, 100, Look::Noise)).unwrap();
    }
    for key in 0..pools {
        assert_eq!(store.load_vec(&key).unwrap().unwrap(), block(key, 100, Look::Noise));
        assert_eq!(
            store.take_vec(&(key + pools)).unwrap().unwrap(),
            block(key + 1, 100, Look::Noise)
        );
    }
    check_books(&store);
    // Replacing what is in old pools empties them.
    for key in 0..pools {
        store.store(key, block(key + 2, 100, Look::Noise)).unwrap();
    }
    store.manager().flush().unwrap();
    assert_eq!(store.stats().manager.pools_alive, 1);
    check_books(&store);
}

/// A store of many blocks that is cleared destroys its pool as a whole: no object is freed on its
/// own, nothing is held any more, and the store continues with a new pool of the same spec.
#[test]
fn clear_of_many_lets_pool_go() {
    let pool = PoolScript::new();
    let store = crate::common::scripted(pool.clone(), CodecScript::new()).build().unwrap();
    let before = store.stats().manager;
    (0..70_000u64).for_each(|key| store.store(key, block(key, 40, Look::Noise)).unwrap());
    store.clear();
    let stats = store.stats();
    let dropped = pool.dropped_with_objects.load(Ordering::SeqCst);
    assert_eq!((store.len(), stats.invalidated, stats.free_failed, dropped), (0, 70_000, 0, 1));
    assert_eq!((pool.live(), stats.manager.pools_created), (70_000, before.pools_created + 1));
    assert_eq!((stats.manager.pools_alive, stats.objects_by_pool.len()), (1, 0));
    store.store(1, block(1, 40, Look::Noise)).unwrap();
    assert_eq!(store.load_vec(&1).unwrap().unwrap(), block(1, 40, Look::Noise));
    check_books(&store);
}

/// A pool that something else refers to is emptied instead, and is not revived.
#[test]
fn clear_of_many_empties_referenced_pool() {
    let pool = PoolScript::new();
    let store = crate::common::scripted(pool.clone(), CodecScript::new()).build().unwrap();
    (0..70_000u64).for_each(|key| store.store(key, block(key, 40, Look::Noise)).unwrap());
    let (held, text) =
        (store.manager().current().unwrap(), store.manager().current().unwrap().spec().clone());
    store.clear();
    assert_eq!((pool.live(), pool.dropped_with_objects.load(Ordering::SeqCst)), (0, 0));
    store.switch(&spec("reference+lz4")).unwrap();
    store.switch(&text).unwrap();
    assert_ne!(store.manager().current().unwrap().id(), held.id());
    drop(held);
    store.manager().flush().unwrap();
    check_books(&store);
}

/// Keys that are more aligned than a frame of memory are stored like any others.
#[test]
fn keys_over_frame_alignment_are_stored() {
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    #[repr(align(8192))]
    struct Aligned(u64);
    let store = Store::<Aligned>::builder().build().unwrap();
    let mut bytes = [0; 8];
    for n in 0..1_000 {
        store.store(Aligned(n), n.to_le_bytes()).unwrap();
    }
    for n in 0..1_000 {
        assert_eq!((store.load(&Aligned(n), &mut bytes), bytes), (Ok(Some(8)), n.to_le_bytes()));
    }
    assert_eq!(store.retain(|key, _| key.0 >= 900), 900);
    assert_eq!(store.keys().map(|key| key.0).sum::<u64>(), (900..1_000).sum());
}
