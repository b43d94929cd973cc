//! A cache of JSON values of any size: `cargo run -p zswap --example json_cache`.
//!
//! Keys are strings, values are written as JSON text, which compresses well. Values longer than a
//! block are cut up inside of the store; they are there whole or not at all. `load_with` parses
//! them out of the thread's own buffer.

use serde_json::{Value, json};
use zswap::{AtLimit, Store};

struct JsonCache(Store<String>);

impl JsonCache {
    fn new(limit_bytes: usize) -> Result<JsonCache, zswap::BuildError> {
        let store = Store::builder()
            .block_size(16 << 10)
            .max_value_len(4 << 20)
            .limit_bytes(limit_bytes)
            .at_limit(AtLimit::Evict)
            .keep_compressible(true)
            .on_evict(|key: &String, len| assert!(!key.is_empty() && len > 0))
            .checksums(true)
            .build()?;
        Ok(JsonCache(store))
    }

    fn put(&self, key: &str, value: &Value) -> Result<(), Box<dyn std::error::Error>> {
        Ok(self.0.store(key.to_owned(), &serde_json::to_vec(value)?)?)
    }

    fn get(&self, key: &str) -> Result<Option<Value>, Box<dyn std::error::Error>> {
        Ok(self.0.load_with(&key.to_owned(), |text| serde_json::from_slice(text))?.transpose()?)
    }
}

/// A document: the larger its number, the more orders, from none to thousands.
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
    let cache = JsonCache::new(8 << 20)?;
    for number in 0..400 {
        cache.put(&format!("customer/{number}"), &document(number))?;
    }
    let mut found = 0;
    for number in 0..400 {
        if let Some(value) = cache.get(&format!("customer/{number}"))? {
            assert_eq!(value, document(number), "whole, and the right one");
            found += 1;
        }
    }
    assert_eq!(found, cache.0.len());
    cache.0.retain(|key, _| key.ends_with('0'));
    assert!(cache.0.keys().all(|key| key.ends_with('0')));
    assert_eq!(cache.get("customer/1")?, None);
    println!("{found} of 400 documents are there\n{}", cache.0.stats());
    assert!(found > 100);
    Ok(())
}
