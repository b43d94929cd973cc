//! Keys that are looked up by a borrowed form, and keys that cannot be cloned.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::codec::{CodecScript, RleDriver};
use crate::common::{Look, block, spec};
use zpool_conformance::ReferenceDriver;
use zswap::{AtLimit, EncodedBlock, Store, StoreBuilder};

fn builder<K: Hash + Eq>() -> StoreBuilder<K> {
    Store::builder()
        .spec(spec("reference+rle"))
        .allocator(Arc::new(ReferenceDriver))
        .compressor(Arc::new(RleDriver { script: CodecScript::new() }))
}

fn page(seed: u64) -> Vec<u8> {
    block(seed, 3000, Look::Runs)
}

/// A key that is found by its number alone, has no `Clone`, and counts those alive.
#[derive(Debug)]
struct Ticket {
    number: u64,
    alive: Arc<AtomicUsize>,
}

impl Ticket {
    fn new(number: u64, alive: &Arc<AtomicUsize>) -> Ticket {
        alive.fetch_add(1, Ordering::SeqCst);
        Ticket { number, alive: alive.clone() }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PartialEq for Ticket {
    fn eq(&self, other: &Ticket) -> bool {
        self.number == other.number
    }
}

impl Eq for Ticket {}

impl Hash for Ticket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl Borrow<u64> for Ticket {
    fn borrow(&self) -> &u64 {
        &self.number
    }
}

/// Every look-up of a store of strings takes a `&str`.
#[test]
fn string_keys_are_found_by_str() {
    let store: Store<String> = builder().max_value_len(9000).build().unwrap();
    let name = |n: u64| format!("page {n}");
    for n in 0..60 {
        store.store(name(n), page(n)).unwrap();
    }
    store.store("a long value".to_owned(), block(7, 9000, Look::Runs)).unwrap();
    let mut buffer = [0; 4096];
    assert_eq!(store.load("page 3", &mut buffer), Ok(Some(3000)));
    assert!(buffer[..3000] == page(3));
    assert_eq!(store.peek("page 4", &mut buffer), Ok(Some(3000)));
    assert!(buffer[..3000] == page(4));
    assert_eq!(store.load_vec("page 5"), Ok(Some(page(5))));
    assert_eq!(store.peek_vec("a long value"), Ok(Some(block(7, 9000, Look::Runs))));
    assert_eq!(store.load_with("page 6", |bytes| bytes == page(6)), Ok(Some(true)));
    let exported = store.export("page 7", |form| {
        assert!(matches!(form, EncodedBlock::Compressed { len: 3000, .. }), "{form:?}");
    });
    assert_eq!(exported, Ok(Some(3000)));
    assert_eq!((store.contains("page 8"), store.len_of("page 8")), (true, Some(3000)));
    assert_eq!(
        (store.contains("page"), store.len_of("page"), store.load_vec("page")),
        (false, None, Ok(None))
    );
    assert_eq!(store.take("page 9", &mut buffer), Ok(Some(3000)));
    assert_eq!(store.take_vec("page 10"), Ok(Some(page(10))));
    assert!(store.invalidate("page 11") && !store.invalidate("page 11"));
    assert_eq!((store.len(), store.take_vec("page 9")), (58, Ok(None)));
}

/// Keys without `Clone` can be stored, found by what they borrow as, and evicted. Each is dropped
/// once.
#[test]
fn keys_without_clone_are_dropped_once() {
    let (alive, evicted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = evicted.clone();
    let store: Store<Ticket> = builder()
        .limit_bytes(1 << 20)
        .at_limit(AtLimit::Evict)
        .on_evict(move |key: &Ticket, len| {
            assert_eq!(len, 3000, "{key:?}");
            seen.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    let ticket = |number| Ticket::new(number, &alive);
    for number in 0..100 {
        store.store(ticket(number), page(number)).unwrap();
        store.store(ticket(number), page(number + 1)).unwrap();
    }
    assert_eq!((store.len(), alive.load(Ordering::SeqCst)), (100, 100), "one key for each entry");
    let results = store.store_many((90..110).map(|number| (ticket(number), page(number))));
    assert_eq!(results.len(), 20);
    assert_eq!((store.len(), alive.load(Ordering::SeqCst)), (110, 110));
    let (numbers, mut buffers) = ([5_u64, 95, 500], vec![vec![0; 4096]; 3]);
    let loaded: Vec<_> =
        store.load_many(&numbers, &mut buffers).into_iter().map(Result::unwrap).collect();
    assert_eq!(loaded, [Some(3000), Some(3000), None]);
    assert!(buffers[0][..3000] == page(6) && buffers[1][..3000] == page(95));
    assert_eq!(store.take_vec(&7_u64), Ok(Some(page(8))));
    assert!(store.invalidate(&8_u64) && store.contains(&ticket(9)));
    assert_eq!(alive.load(Ordering::SeqCst), 108);
    // Stores until some are evicted.
    let mut number = 1000;
    while evicted.load(Ordering::SeqCst) < 50 {
        store.store(ticket(number), block(number, 3000, Look::Noise)).unwrap();
        number += 1;
    }
    assert_eq!(store.len(), alive.load(Ordering::SeqCst));
    store.clear();
    assert_eq!((store.len(), alive.load(Ordering::SeqCst)), (0, 0));
    store.store(ticket(1), page(1)).unwrap();
    drop(store);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
