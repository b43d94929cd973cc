//! Samples of a store's live blocks, and a codec that is trained on them.

use std::collections::HashSet;

use crate::common::{builder, spec};
use zswap::Store;

const BLOCK: usize = 512;

/// Returns a text with the number of its block.
fn text(i: u64) -> Vec<u8> {
    let line = format!("block {i:06} of a store that is sampled; ");
    line.bytes().cycle().take(BLOCK).collect()
}

fn filled(count: u64) -> Store<u64> {
    let store = builder().spec(spec("reference+rle")).block_size(BLOCK).build().unwrap();
    (0..count).for_each(|i| store.store(i, text(i)).unwrap());
    store
}

/// A sample has as many blocks as were asked for, each once, from all parts of the store.
#[test]
fn sample_of_many_blocks_is_spread() {
    let store = filled(1000);
    let sample = store.sample(100).unwrap();
    let distinct: HashSet<&Vec<u8>> = sample.iter().collect();
    assert_eq!((sample.len(), distinct.len()), (100, 100));
    let stored: HashSet<Vec<u8>> = (0..1000).map(text).collect();
    assert!(sample.iter().all(|block| stored.contains(block)));
    let stats = store.stats();
    assert_eq!(stats.loads_hit, 0, "a sample does not count as a use");
}

#[test]
fn sample_of_few_blocks_is_all() {
    let store = filled(7);
    let mut sample = store.sample(100).unwrap();
    sample.sort();
    assert_eq!(sample, (0..7).map(text).collect::<Vec<_>>());
    assert!(store.sample(0).unwrap().is_empty());
    assert!(filled(0).sample(10).unwrap().is_empty());
}

/// A large value counts as its blocks. The last one may be shorter.
#[test]
fn sample_of_large_value_is_blocks() {
    let store = builder()
        .spec(spec("reference+rle"))
        .block_size(BLOCK)
        .max_value_len(1 << 16)
        .build()
        .unwrap();
    let value = [text(1), text(2), text(3)[..100].to_vec()].concat();
    store.store(1, &value).unwrap();
    assert_eq!(store.sample(10).unwrap().concat(), value);
    assert_eq!(store.sample(2).unwrap(), [text(1), text(2)]);
}

/// A model is trained on some of a store's blocks and judged on others. Then the store switches to
/// it.
#[cfg(feature = "pagelz")]
#[test]
fn sample_trains_model_that_store_uses() {
    let store = builder().spec(spec("reference+pagelz(level=3)")).build().unwrap();
    // Records with fields that vary, a kind of data that the generic model does not know.
    let page = |i: u64| -> Vec<u8> {
        let record = |j: u64| {
            let n = (i * 64 + j) * 2_654_435_761 % (1 << 32);
            format!("{{\"q\":{:05},\"Z\":{:04},\"w\":{:03}}}", n >> 15, n % 9973, n % 251)
        };
        (0..).flat_map(|j| record(j).into_bytes()).take(4096).collect()
    };
    (0..800).for_each(|i| store.store(i, page(i)).unwrap());
    let before = store.stats().payload_bytes;
    let sample = store.sample(800).unwrap();
    let model = zpool_pagelz::train(&sample.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let name = zpool_pagelz::remember(&model).unwrap();
    store.switch(&spec(&format!("reference+pagelz(level=3,model={name})"))).unwrap();
    (0..800).for_each(|i| store.store(i, page(i)).unwrap());
    assert!(store.stats().payload_bytes < before, "{before} bytes without a model");
    assert!((0..800).all(|i| store.load_vec(&i).unwrap().unwrap() == page(i)));
    zpool_pagelz::forget(&name);
}
