//! A cache of JSON values of any size: `cargo run -p zswap --example json_cache`.
//!
//! Keys are strings, and values are written as JSON text, which compresses well. The store splits
//! values longer than a block; they are there whole or not at all. The closure of `load_with`
//! parses them in the thread's own buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use zswap::{AtLimit, Store};

struct JsonCache {
    store: Store<String>,
    evicted: Arc<AtomicU64>,
}

impl JsonCache {
    fn new(limit_bytes: usize) -> Result<JsonCache, zswap::BuildError> {
        let evicted = Arc::new(AtomicU64::new(0));
        let counter = evicted.clone();
        let store = Store::builder()
            .block_size(16 << 10)
            .max_value_len(4 << 20)
            .limit_bytes(limit_bytes)
            .at_limit(AtLimit::Evict)
            .keep_compressible(true)
            .on_evict(move |_, _| {
                counter.fetch_add(1, Ordering::Relaxed);
            })
            .checksums(true)
            .build()?;
        Ok(JsonCache { store, evicted })
    }

    fn put(&self, key: &str, value: &Value) -> Result<(), Box<dyn std::error::Error>> {
        Ok(self.store.store(key.to_owned(), &serde_json::to_vec(value)?)?)
    }

    fn get(&self, key: &str) -> Result<Option<Value>, Box<dyn std::error::Error>> {
        Ok(self.store.load_with(key, |text| serde_json::from_slice(text))?.transpose()?)
    }
}

const LIMIT: usize = 4 << 20;

/// Returns a document. The larger its number, the more orders it has, from none to thousands.
fn document(number: u64) -> Value {
    let orders = (number * number / 40) as usize % 6_000;
    let order = |i: usize| {
        let article = format!("article {}", i * 7 % 100);
        json!({"order": i, "article": article, "count": i % 9 + 1})
    };
    let orders: Vec<_> = (0..orders).map(order).collect();
    json!({"customer": number, "name": format!("customer {number}"), "orders": orders})
}

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = JsonCache::new(LIMIT)?;
    let mut text = 0;
    for number in 0..400 {
        let document = document(number);
        text += document.to_string().len();
        cache.put(&format!("customer/{number}"), &document)?;
    }
    let mut found = 0;
    for number in 0..400 {
        if let Some(value) = cache.get(&format!("customer/{number}"))? {
            assert_eq!(value, document(number), "whole, and the right one");
            found += 1;
        }
    }
    let (stats, evicted) = (cache.store.stats(), cache.evicted.load(Ordering::Relaxed));
    println!("stored   400 documents of {text} bytes together");
    println!("evicted  {evicted}");
    println!("kept     {found}, {} bytes in {}", stats.stored_bytes, stats.bytes_held());
    assert_eq!((found, evicted), (cache.store.len(), stats.evicted));
    assert!(evicted > 0 && found > 40);
    assert_eq!(found as u64 + evicted, 400);
    cache.store.retain(|key, _| key.ends_with('0'));
    assert!(cache.store.keys().all(|key| key.ends_with('0')));
    println!("kept     {} whose name ends in 0", cache.store.len());
    assert_eq!(cache.get("customer/1")?, None);
    Ok(())
}
