//! Trains a dictionary on the blocks of a store, and switches to it if it pays.
//!
//! `cargo run --release -p zswap --features zstd --example dictionary`

use std::error::Error;

use zpool_zstd::{TrainError, remember, train_and_judge};
use zswap::Store;

/// The number of blocks in the store that the dictionary is trained on.
const SAMPLE_BLOCKS: usize = 4000;
const DICTIONARY_BYTES: usize = 4096;

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn Error>> {
    let store: Store<usize> = Store::builder().spec("zsmalloc+zstd".parse()?).build()?;
    for key in 0..8000 {
        store.store(key, order(key))?;
    }

    // Peeking does not count as a use, so blocks that are seldom loaded are still evicted first.
    let sample: Vec<Vec<u8>> = store
        .keys()
        .take(SAMPLE_BLOCKS)
        .filter_map(|key| store.peek_vec(&key).transpose())
        .collect::<Result<_, _>>()?;
    let trained = match train_and_judge(&sample, 1, DICTIONARY_BYTES) {
        Ok(trained) => trained,
        Err(TrainError::Refused(verdict)) => {
            println!("no dictionary: {verdict}");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    println!("a dictionary of {} bytes pays {}", trained.dictionary.len(), trained.verdict);

    // An ordinary switch: blocks stored before stay where they are, and load as before.
    let before = store.stats().payload_bytes;
    store.set_compressor(&format!("zstd(dict={})", remember(&trained.dictionary)?).parse()?)?;
    for key in 0..8000 {
        assert_eq!(store.load_vec(&key)?.as_deref(), Some(&order(key)[..]));
        store.store(key, order(key))?;
    }
    let after = store.stats().payload_bytes;
    println!("stored again with it: {before} bytes became {after}");
    assert!(after < before, "it was judged to take fewer bytes");
    Ok(())
}

/// Returns a record of a kind that an application may keep many of.
fn order(n: usize) -> Vec<u8> {
    let lines = (0..8 + n % 5).map(|line| {
        let item = (n * 31 + line * 7) % 997;
        format!(
            "{{\"item\":\"{:08x}\",\"count\":{},\"price\":{}.99,\"shipped\":false}}",
            item * 0x9E37,
            line % 4 + 1,
            item % 80
        )
    });
    let lines: Vec<String> = lines.collect();
    format!("{{\"order\":{n},\"customer\":\"c{}\",\"lines\":[{}]}}", n * 17 % 5000, lines.join(","))
        .into_bytes()
}
