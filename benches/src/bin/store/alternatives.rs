//! Common alternatives to a store: a sharded map of lz4 vectors, and a cache crate with such
//! vectors in it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use benches::{Failure, child};
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use quick_cache::sync::Cache;
use workload::{
    Elapsed, Figure, Growth, Pages, PartWork, Report, clocked, interleave, print_result,
    refuse_huge_pages,
};
use zswap::Store;

use crate::{PAGE, PART, ROUNDS, plain};

const SHARDS: usize = 64;
const NAMES: [&str; 3] = ["ours", "map", "quick_cache"];

/// A container of pages.
trait PageStore {
    fn store(&self, key: u64, page: &[u8]);
    fn load(&self, key: u64, page: &mut [u8]) -> bool;
}

impl PageStore for Store<u64> {
    fn store(&self, key: u64, page: &[u8]) {
        Store::store(self, key, page).expect("there is no limit");
    }

    fn load(&self, key: u64, page: &mut [u8]) -> bool {
        Store::load(self, &key, page).expect("no fault").is_some()
    }
}

struct ShardedMap {
    shards: Vec<Mutex<HashMap<u64, Arc<[u8]>>>>,
    hasher: RandomState,
}

impl ShardedMap {
    fn new() -> ShardedMap {
        ShardedMap {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, key: u64) -> &Mutex<HashMap<u64, Arc<[u8]>>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

/// Compresses as the library's own `compress` does, which needs its feature `alloc`.
fn compress(page: &[u8]) -> Vec<u8> {
    let mut out = vec![0; get_maximum_output_size(page.len())];
    let len = compress_into(page, &mut out).expect("a buffer of the bound");
    out.truncate(len);
    out
}

impl PageStore for ShardedMap {
    fn store(&self, key: u64, page: &[u8]) {
        let object = Arc::from(compress(page));
        let old =
            self.shard(key).lock().unwrap_or_else(PoisonError::into_inner).insert(key, object);
        drop(old);
    }

    fn load(&self, key: u64, page: &mut [u8]) -> bool {
        // Clone the object, so that no other thread waits while we decompress it.
        let object =
            self.shard(key).lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        object.is_some_and(|object| decompress_into(&object, page).is_ok())
    }
}

impl PageStore for Cache<u64, Arc<[u8]>> {
    fn store(&self, key: u64, page: &[u8]) {
        self.insert(key, Arc::from(compress(page)));
    }

    fn load(&self, key: u64, page: &mut [u8]) -> bool {
        self.get(&key).is_some_and(|object| decompress_into(&object, page).is_ok())
    }
}

fn page_store(name: &str, pages: usize) -> Option<Box<dyn PageStore>> {
    Some(match name {
        "ours" => Box::new(plain()),
        "map" => Box::new(ShardedMap::new()),
        // Room for twice as many pages, so that nothing is evicted.
        "quick_cache" => Box::new(Cache::new(2 * pages)),
        _ => return None,
    })
}

pub(crate) fn measure(pages: &Pages, report: &mut Report) -> Result<(), Failure> {
    let held = NAMES.map(|name| child([name]).run::<i64>(pages));
    let [ours, map, cache] = held;
    let (ours, map, cache) = (ours? as f64, map? as f64, cache? as f64);
    report.push(Figure::exact("ours_bytes_over_pages", ours / pages.bytes().len() as f64, "ratio"));
    report.push(Figure::exact("map_bytes_over_ours", map / ours, "ratio"));
    report.push(Figure::exact("quick_cache_bytes_over_ours", cache / ours, "ratio"));

    let page_stores = NAMES.map(|name| page_store(name, pages.len()).expect("one of the names"));
    let parts = pages.len() / PART;
    let part_of = |part: usize| part * PART..(part + 1) * PART;
    let stores = |page_store: &dyn PageStore, part| -> Elapsed {
        clocked(|| part_of(part).for_each(|i| page_store.store(i as u64, pages.block(i)))).0
    };
    let mut contestants: Vec<PartWork<'_>> = NAMES
        .iter()
        .zip(&page_stores)
        .map(|(name, page_store)| PartWork::new(name, move |part| stores(&**page_store, part)))
        .collect();
    let stored = interleave(ROUNDS, parts, &mut contestants).cpu;
    drop(contestants);
    let loads = |page_store: &dyn PageStore, part, to: &mut Vec<u8>| -> Elapsed {
        to.clear();
        to.resize(PART * PAGE.get(), 0xA5);
        let (elapsed, ()) = clocked(|| {
            for (i, page) in part_of(part).zip(to.chunks_exact_mut(PAGE.get())) {
                assert!(page_store.load(i as u64, page), "page {i}");
            }
        });
        assert!(
            part_of(part).zip(to.chunks_exact(PAGE.get())).all(|(i, page)| page == pages.block(i))
        );
        elapsed
    };
    let mut contestants: Vec<PartWork<'_>> = NAMES
        .iter()
        .zip(&page_stores)
        .map(|(name, page_store)| {
            let mut to = Vec::new();
            PartWork::new(name, move |part| loads(&**page_store, part, &mut to))
        })
        .collect();
    let loaded = interleave(ROUNDS, parts, &mut contestants).cpu;
    drop(contestants);
    for (i, name) in NAMES.iter().enumerate().skip(1) {
        report.push(stored.ratio(i, 0).figure(format!("{name}_store_over_ours"), "ratio"));
        report.push(loaded.ratio(i, 0).figure(format!("{name}_load_over_ours"), "ratio"));
    }
    Ok(())
}

/// Measures in a child: keeps the pages of the standard input and answers with the bytes that the
/// operating system counts for them.
pub(crate) fn measure_here(task: &[String]) -> Result<(), Failure> {
    refuse_huge_pages();
    let pages = Pages::read_from(std::io::stdin().lock())?;
    let before = Growth::start()?;
    let [name] = task else { return Err("a child measures one alternative".into()) };
    let page_store = page_store(name, pages.len()).ok_or("no such alternative")?;
    for (key, page) in (0..).zip(&pages) {
        page_store.store(key, page);
    }
    let bytes = before.bytes()?;
    let mut page = vec![0; PAGE.get()];
    for (key, expected) in (0..).zip(&pages) {
        assert!(page_store.load(key, &mut page) && page == expected, "page {key}");
    }
    Ok(print_result(&bytes)?)
}
