//! A heap that refuses one request, whichever it is: batches and loads end with an error, and
//! the process lives. A binary of its own, because it replaces the allocator.
#![cfg(not(zpool_loom))]

mod common;

use std::sync::Arc;

use common::{Look, block, builder, check_books, spec};
use zpool_testing::child::run_in_child;
use zpool_testing::heap::{CountingAllocator, Refusal, refusing_some};
use zswap::plugin::Manual;
use zswap::{BatchResults, Error, Store};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The first of the keys that the calls use, after those of a grown store.
const FIRST: u64 = 1 << 32;
const KEYS: u64 = 20;

/// Returns the value of a key, in one of two versions of equal lengths.
fn value(key: u64, version: u64) -> Vec<u8> {
    let look = [Look::Runs, Look::Noise, Look::SameFilled][(key % 3) as usize];
    block(key + 1_000 * version, 200 + 100 * (key % KEYS) as usize, look)
}

/// Builds a store in which the calls find everything that they need from pool, codec and index:
/// each key was stored in both versions, several times.
fn warm(others: u64) -> Store<u64> {
    let builder = builder().spec(spec("zsmalloc+lz4")).executor(Arc::new(Manual::new()));
    let store = builder.checksums(true).build().unwrap();
    (0..others).for_each(|key| store.store(key, value(key, 0)).unwrap());
    for version in (0..8).map(|pass| (pass + 1) % 2) {
        for key in FIRST..FIRST + KEYS {
            store.store(key, value(key, version)).unwrap();
            store.load(&key, &mut [0; 4096]).unwrap();
        }
    }
    store
}

/// Expected value of each key after a call.
type Contents = fn(u64) -> Option<Vec<u8>>;

/// A call, which returns what is then stored.
type Call = fn(&Store<u64>, Refusal) -> Outcome;

struct Outcome {
    /// Whether the request was made, and refused.
    refused: bool,
    /// Keys of [`KEYS`] that have version 1 now.
    newer: u64,
    /// Keys after these that are removed.
    removed: u64,
}

const CALLS: [(&str, Call); 10] = [
    ("store_many", |store, what| stored(store, what, |items| items)),
    // Its length is unknown, so the list grows.
    ("store_many, length unknown", |store, what| {
        stored(store, what, |items| Box::new(items.filter(|_| true)) as Items<'_>)
    }),
    ("load_many", load_many),
    ("load_vec", |store, what| {
        read(store, what, |key| store.load_vec(&key).map(|bytes| bytes.is_some()))
    }),
    ("peek_vec", |store, what| {
        read(store, what, |key| store.peek_vec(&key).map(|bytes| bytes.is_some()))
    }),
    ("load_with", |store, what| {
        read(store, what, |key| store.load_with(&key, |_| ()).map(|it| it.is_some()))
    }),
    ("export", |store, what| {
        read(store, what, |key| store.export(&key, |_| ()).map(|it| it.is_some()))
    }),
    ("take_vec", take_vec),
    ("sample", |store, what| sampled(store, what, |store| store.sample(8))),
    ("sample_cold", |_, what| sampled(&with_cold_blocks(), what, |store| store.sample_cold(8))),
];

type Items<'b> = Box<dyn Iterator<Item = (u64, &'b [u8])> + 'b>;

/// Stores version 1 of all keys in a batch. The values of keys after the first error are removed.
fn stored(
    store: &Store<u64>,
    what: Refusal,
    shape: impl for<'b> Fn(Items<'b>) -> Items<'b>,
) -> Outcome {
    let values: Vec<_> = (FIRST..FIRST + KEYS).map(|key| (key, value(key, 1))).collect();
    let items: Items<'_> = Box::new(values.iter().map(|(key, value)| (*key, value.as_slice())));
    let items = shape(items);
    let (results, refused): (BatchResults<()>, bool) =
        refusing_some(what, || store.store_many(items));
    let newer = results.iter().take_while(|result| result.is_ok()).count() as u64;
    // A list may find room at a second attempt.
    assert!(refused || newer == KEYS);
    assert!(matches!(what, Refusal::Nth(_)) || newer < KEYS || !refused);
    assert_eq!(results.iter().all(Result::is_ok), newer == KEYS);
    if newer < KEYS {
        let error = Error::ResultsOutOfMemory;
        assert_eq!((results.len() as u64, &results[newer as usize]), (newer + 1, &Err(error)));
        assert_eq!(store.stats().rejected.alloc_failed, KEYS - newer);
    }
    Outcome { refused, newer, removed: KEYS - newer }
}

fn load_many(store: &Store<u64>, what: Refusal) -> Outcome {
    let keys: Vec<u64> = (FIRST..FIRST + KEYS).collect();
    let mut buffers = vec![[0xEE; 4096]; KEYS as usize];
    let (results, refused) = refusing_some(what, || store.load_many(&keys, &mut buffers));
    if refused {
        assert_eq!(results, [Err(Error::ResultsOutOfMemory)]);
        assert!(buffers.iter().all(|buffer| *buffer == [0xEE; 4096]), "nothing was loaded");
    } else {
        assert!(results.len() == keys.len() && results.iter().all(Result::is_ok));
        assert!(keys.iter().zip(&buffers).all(|(&key, buffer)| buffer.starts_with(&value(key, 0))));
    }
    Outcome { refused, newer: 0, removed: 0 }
}

/// Reads each key alone. Some reads fail, because there is no memory for a buffer.
fn read(_: &Store<u64>, what: Refusal, read: impl Fn(u64) -> Result<bool, Error>) -> Outcome {
    let mut failed = 0;
    let ((), refused) = refusing_some(what, || {
        for key in FIRST..FIRST + KEYS {
            match read(key) {
                Ok(found) => assert!(found),
                Err(error) => {
                    let needed = value_len(key);
                    assert!(error == Error::BufferOutOfMemory { needed });
                    failed += 1;
                }
            }
        }
    });
    assert!(
        failed == u64::from(refused) || matches!(what, Refusal::From(_)) && refused && failed > 0
    );
    Outcome { refused, newer: 0, removed: 0 }
}

fn value_len(key: u64) -> usize {
    200 + 100 * (key % KEYS) as usize
}

/// Takes one value: it is taken, or still there.
fn take_vec(store: &Store<u64>, what: Refusal) -> Outcome {
    let key = FIRST + KEYS - 1;
    let (taken, refused) = refusing_some(what, || store.take_vec(&key));
    match taken {
        Ok(taken) => {
            assert_eq!(taken, Some(value(key, 0)));
            store.store(key, value(key, 0)).unwrap();
        }
        Err(error) => {
            assert_eq!(error, Error::BufferOutOfMemory { needed: value_len(key) });
        }
    }
    Outcome { refused, newer: 0, removed: 0 }
}

/// Copies blocks: so many, or none if one request is refused.
fn sampled(
    store: &Store<u64>,
    what: Refusal,
    sample: impl Fn(&Store<u64>) -> Result<Vec<Vec<u8>>, Error>,
) -> Outcome {
    let (sample, refused) = refusing_some(what, || sample(store));
    match sample {
        Ok(blocks) => assert!(blocks.len() == 8 && blocks.iter().all(|block| !block.is_empty())),
        Err(error) => assert!(refused && matches!(error, Error::BufferOutOfMemory { .. })),
    }
    Outcome { refused, newer: 0, removed: 0 }
}

/// Builds a store whose blocks the clock has found unused.
fn with_cold_blocks() -> Store<u64> {
    let builder = builder().spec(spec("zsmalloc+lz4")).executor(Arc::new(Manual::new()));
    let store = builder.cold(spec("zsmalloc(chain=4)+lz4")).build().unwrap();
    (0..40).for_each(|key| store.store(key, block(key, 500, Look::Noise)).unwrap());
    store.turn_heat_clock();
    assert_eq!(store.sample_cold(8).unwrap().len(), 8);
    store
}

/// Checks contents and accounts after a call.
fn check(store: &Store<u64>, others: u64, Outcome { newer, removed, .. }: Outcome) {
    let contents: [(std::ops::Range<u64>, Contents); 3] = [
        (0..newer, |key| Some(value(key, 1))),
        (newer..newer + removed, |_| None),
        (newer + removed..KEYS, |key| Some(value(key, 0))),
    ];
    for (keys, expected) in contents {
        for key in keys.map(|key| FIRST + key) {
            assert_eq!(store.load_vec(&key).unwrap(), expected(key), "key {key}");
        }
    }
    assert!((0..others).all(|key| store.load_vec(&key).unwrap() == Some(value(key, 0))));
    assert_eq!(store.len() as u64, others + KEYS - removed);
    check_books(store);
    store.manager().current().unwrap().zpool().validate().unwrap();
}

/// Refuses each request of each call in turn, in a process of its own: a request that cannot fail
/// aborts it.
#[test]
fn batches_and_loads_survive_every_refusal() {
    if let Ok(name) = std::env::var("HEAP_REFUSED_CALL") {
        let (name, call) = CALLS.into_iter().find(|(other, _)| *other == name).unwrap();
        for others in [0, 300] {
            let mut nth = 0;
            loop {
                let store = warm(others);
                println!("\n{name}, {others} others, request {nth}");
                let outcome = call(&store, Refusal::Nth(nth));
                let refused = outcome.refused;
                check(&store, others, outcome);
                if !refused {
                    break;
                }
                let store = warm(others);
                let outcome = call(&store, Refusal::From(nth));
                check(&store, others, outcome);
                nth += 1;
            }
            println!("\nsurvived {nth}");
        }
        return;
    }
    for (name, _) in CALLS {
        let out =
            run_in_child("batches_and_loads_survive_every_refusal", "HEAP_REFUSED_CALL", name);
        let survived: Vec<u64> =
            out.lines().filter_map(|l| l.strip_prefix("survived ")?.parse().ok()).collect();
        assert_eq!(survived.len(), 2, "{name}: {out}");
        // `load_with` keeps its buffer for the second store.
        assert!(name == "export" || survived[0] > 0, "{name}: {survived:?}");
    }
}
