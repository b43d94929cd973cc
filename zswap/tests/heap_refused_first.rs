//! A heap that refuses one request of a call that is the first of its kind, and finds neither a
//! codec context nor a frame of a pool. The process lives, and the call returns an error. A
//! program of its own, because it replaces the allocator.
#![cfg(not(zpool_loom))]

mod common;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use common::{Look, block, builder, check_books, spec};
use zpool_core::PoolError;
use zpool_core::compress::CodecError;
use zpool_testing::child::run_in_child;
use zpool_testing::heap::{CountingAllocator, Refusal, refusing_some};
use zswap::plugin::Manual;
use zswap::{Error, Store};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SPECS: &[&str] = &[
    "zsmalloc+lz4",
    "zbud+lz4",
    #[cfg(feature = "pagelz")]
    "zsmalloc+pagelz",
    #[cfg(feature = "pagelz")]
    "zsmalloc+pagelz(level=3)",
    #[cfg(feature = "zstd")]
    "zsmalloc+zstd",
    #[cfg(feature = "zstd")]
    "zbud+zstd",
];

/// The key that most calls are about.
const KEY: u64 = 1 << 32;
/// Keys of a store with contents.
const KEYS: u64 = 300;

fn store(spec_text: &str) -> Store<u64> {
    let builder = builder().spec(spec(spec_text)).executor(Arc::new(Manual::new()));
    builder.max_value_len(1 << 20).build().unwrap()
}

/// Builds a store in which nothing was decompressed yet.
fn filled(spec: &str, len: usize) -> Store<u64> {
    let store = store(spec);
    (0..KEYS).for_each(|key| store.store(key, block(key, 300, Look::Runs)).unwrap());
    store.store(KEY, block(KEY, len, Look::Runs)).unwrap();
    store
}

/// Does a call on a store of its own while the request is refused. Returns whether there was one.
type Call = fn(&str, Refusal) -> bool;

const LARGE: usize = 60_000;

const CALLS: [(&str, Call); 14] = [
    ("store", |spec, what| stores(spec, what, block(1, 4_000, Look::Runs))),
    ("store, noise", |spec, what| stores(spec, what, block(1, 4_000, Look::Noise))),
    ("store, same-filled", |spec, what| stores(spec, what, block(1, 4_000, Look::SameFilled))),
    ("store, large", |spec, what| stores(spec, what, block(1, LARGE, Look::Runs))),
    ("store_many", store_many),
    ("load", |spec, what| reads(spec, what, 4_000, load)),
    ("load, large", |spec, what| reads(spec, what, LARGE, load)),
    ("load_with", |spec, what| {
        reads(spec, what, LARGE, |store, value| store.load_with(&KEY, |bytes| bytes == value))
    }),
    ("peek_vec", |spec, what| {
        reads(spec, what, 4_000, |store, value| {
            Ok(store.peek_vec(&KEY)?.map(|bytes| bytes == value))
        })
    }),
    ("export", |spec, what| {
        reads(spec, what, 4_000, |store, value| {
            Ok(store.export(&KEY, |_| ())?.map(|len| len == value.len()))
        })
    }),
    ("take_vec", |spec, what| {
        reads(spec, what, LARGE, |store, value| {
            let Some(taken) = store.take_vec(&KEY)? else { return Ok(None) };
            Ok(Some(store.len() as u64 == KEYS && taken == value))
        })
    }),
    ("invalidate and clear", |spec, what| {
        let store = filled(spec, LARGE);
        let (invalidated, refused) = refusing_some(what, || {
            let invalidated = store.invalidate(&KEY);
            store.clear();
            invalidated
        });
        assert!(invalidated && store.is_empty());
        end(&store);
        refused
    }),
    ("keys", |spec, what| {
        let store = filled(spec, 4_000);
        let mut seen = [0_u8; KEYS as usize];
        let (others, refused) = refusing_some(what, || {
            store
                .keys()
                .filter(|&key| {
                    key == KEY || {
                        seen[key as usize] += 1;
                        false
                    }
                })
                .count()
        });
        assert_eq!((others, seen), (1, [1; KEYS as usize]));
        end(&store);
        refused
    }),
    ("retain", |spec, what| {
        let store = filled(spec, 4_000);
        let (removed, refused) = refusing_some(what, || store.retain(|key, _| key % 3 == 0));
        assert_eq!(removed as u64, KEYS - KEYS / 3 + 1);
        assert_eq!(store.keys().collect::<BTreeSet<_>>(), (0..KEYS).step_by(3).collect());
        end(&store);
        refused
    }),
];

/// Checks after a call that the store is consistent and works.
fn end(store: &Store<u64>) {
    check_books(store);
    store.manager().current().unwrap().zpool().validate().unwrap();
    let value = block(9, LARGE, Look::Runs);
    store.store(KEY + 9, &value).unwrap();
    assert_eq!(store.load_vec(&(KEY + 9)).unwrap(), Some(value));
}

/// Returns whether a call returns this error because memory is refused.
fn is_want_of_memory(kind: &Error) -> bool {
    matches!(
        kind,
        Error::Codec(CodecError::OutOfMemory)
            | Error::Pool(PoolError::OutOfMemory)
            | Error::IndexOutOfMemory
            | Error::BufferOutOfMemory { .. }
            | Error::ResultsOutOfMemory
    )
}

fn stores(spec: &str, what: Refusal, value: Vec<u8>) -> bool {
    let store = store(spec);
    let (stored, refused) = refusing_some(what, || store.store(KEY, &value));
    let expected = match stored {
        Ok(()) => Some(value),
        Err(error) => {
            assert!(refused && is_want_of_memory(&error), "{error}");
            None
        }
    };
    assert_eq!(store.load_vec(&KEY).unwrap(), expected);
    end(&store);
    refused
}

fn store_many(spec: &str, what: Refusal) -> bool {
    let store = store(spec);
    let looks = [Look::Runs, Look::Noise, Look::SameFilled];
    let values: Vec<_> = (0..20).map(|key| block(key, 2_000, looks[key as usize % 3])).collect();
    let items = || values.iter().enumerate().map(|(key, value)| (key as u64, value.as_slice()));
    let (results, refused) = refusing_some(what, || store.store_many(items()));
    for (key, value) in items() {
        // There is no result after the one that reports that there is no memory for more.
        let stored = results.get(key as usize).is_some_and(Result::is_ok);
        assert_eq!(store.load_vec(&key).unwrap().as_deref(), stored.then_some(value));
        if let Some(Err(error)) = results.get(key as usize) {
            assert!(refused && is_want_of_memory(error), "{error}");
        }
    }
    end(&store);
    refused
}

/// Reads a value, and returns whether it is the right one.
type Read = fn(&Store<u64>, &[u8]) -> Result<Option<bool>, Error>;

fn load(store: &Store<u64>, value: &[u8]) -> Result<Option<bool>, Error> {
    thread_local!(static BUFFER: RefCell<[u8; LARGE]> = const { RefCell::new([0; LARGE]) });
    BUFFER.with_borrow_mut(|buffer| {
        let len = store.load(&KEY, buffer)?;
        Ok(len.map(|len| buffer[..len] == *value))
    })
}

fn reads(spec: &str, what: Refusal, len: usize, read: Read) -> bool {
    let (store, value) = (filled(spec, len), block(KEY, len, Look::Runs));
    let (found, refused) = refusing_some(what, || read(&store, &value));
    match found {
        Ok(found) => assert_eq!(found, Some(true)),
        Err(error) => {
            assert!(refused && is_want_of_memory(&error), "{error}");
            assert_eq!(store.load_vec(&KEY).unwrap(), Some(value));
        }
    }
    end(&store);
    refused
}

/// Refuses each request of each call in turn, in a process of its own: a request that cannot fail
/// aborts it.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long; CI runs it optimized")]
fn first_calls_survive_refusals() {
    if let Ok(name) = std::env::var("HEAP_REFUSED_FIRST") {
        let (name, call) = CALLS.into_iter().find(|(other, _)| *other == name).unwrap();
        for spec in SPECS {
            let mut nth = 0;
            loop {
                println!("\n{name}, {spec}, request {nth}");
                // The number of requests of the index differs from store to store, because each has
                // a seed of its own.
                if !(call(spec, Refusal::Nth(nth)) | call(spec, Refusal::From(nth))) {
                    break;
                }
                nth += 1;
            }
            println!("\nsurvived {nth}");
        }
        return;
    }
    for (name, _) in CALLS {
        let out = run_in_child("first_calls_survive_refusals", "HEAP_REFUSED_FIRST", name);
        let survived: Vec<u64> =
            out.lines().filter_map(|l| l.strip_prefix("survived ")?.parse().ok()).collect();
        assert_eq!(survived.len(), SPECS.len(), "{name}: {out}");
        let asks = [
            "store",
            "store, noise",
            "store, large",
            "store_many",
            "keys",
            "retain",
            "load_with",
            "take_vec",
        ];
        // `load_with` keeps its buffer for the stores after the first.
        assert!(!asks.contains(&name) || survived[0] > 0, "{name}: {survived:?}");
    }
}
