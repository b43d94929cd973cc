//! Samples of a store's cold blocks, and a dictionary for the cold pool that is trained on them.

use std::sync::Arc;

use crate::common::codec::{CodecScript, OnDecompress};
use crate::common::pool::PoolScript;
use crate::common::{Look, block, check_books, cold_builder, scripted, spec, stamped, unstamp};
use zswap::plugin::Manual;
use zswap::{Error, Store};

const LEN: usize = 1200;
const KEYS: u64 = 400;

fn runs(key: u64) -> Vec<u8> {
    stamped(key, 1, LEN)
}

fn filled() -> Store<u64> {
    let store = cold_builder().build().unwrap();
    (0..KEYS).for_each(|key| store.store(key, runs(key)).unwrap());
    store
}

/// Returns the keys of the sampled blocks in order, after checking every byte.
fn sampled_keys(store: &Store<u64>, count: usize) -> Vec<u64> {
    let sample = store.sample_cold(count).unwrap();
    let mut keys: Vec<u64> = sample.iter().map(|block| unstamp(block).0).collect();
    keys.sort_unstable();
    keys
}

/// Only cold blocks are in a sample: those that the clock found unused before any is in the cold
/// pool, then also those in it, but none that was loaded since.
#[test]
fn sample_cold_has_only_cold_blocks() {
    let store = filled();
    assert!(store.sample_cold(usize::MAX).unwrap().is_empty(), "the clock has not turned");
    let load_hot = || {
        (0..KEYS)
            .step_by(4)
            .for_each(|key| assert!(store.load_vec(&key).unwrap() == Some(runs(key))));
    };
    load_hot();
    store.turn_heat_clock();
    let cold: Vec<u64> = (0..KEYS).filter(|key| key % 4 != 0).collect();
    assert_eq!(store.stats().cold.unwrap().blocks, 0);
    assert_eq!(sampled_keys(&store, usize::MAX), cold);
    // One that is loaded is cold no longer, and a new one is not yet.
    assert!(store.load_vec(&1).unwrap().is_some());
    store.store(KEYS, runs(KEYS)).unwrap();
    assert_eq!(sampled_keys(&store, usize::MAX), cold[1..]);
    load_hot();
    store.turn_heat_clock();
    assert_eq!(store.stats().cold.unwrap().blocks, cold.len() - 1);
    // Found unused by the second turn for the first time.
    let with_new: Vec<u64> = cold[1..].iter().copied().chain([KEYS]).collect();
    assert_eq!(sampled_keys(&store, usize::MAX), with_new);
    // Blocks of the previous cold pool are cold, wherever they are.
    store.set_cold(&spec("zsmalloc+rle(other=1)")).unwrap();
    assert_eq!(sampled_keys(&store, usize::MAX), with_new);
    assert!(store.manager().remove_cold());
    assert_eq!(sampled_keys(&store, usize::MAX), with_new);
}

/// A sample has as many blocks as were asked for, each once, and from all parts of the store.
#[test]
fn sample_cold_respects_count() {
    let store = filled();
    store.turn_heat_clock();
    store.turn_heat_clock();
    for count in [0, 1, 7, 100, KEYS as usize - 1, KEYS as usize, KEYS as usize + 1] {
        let mut keys = sampled_keys(&store, count);
        assert_eq!(keys.len(), count.min(KEYS as usize));
        keys.dedup();
        assert_eq!(keys.len(), count.min(KEYS as usize), "each once");
    }
    // In the order of the walk, every second block is in a sample of half of them.
    let all = store.sample_cold(usize::MAX).unwrap();
    let every_second: Vec<_> = all.iter().step_by(2).cloned().collect();
    assert_eq!(store.sample_cold(KEYS as usize / 2).unwrap(), every_second);
}

/// A sample is no use: neither counters nor heat change, so the clock goes on as without it.
#[test]
fn sample_cold_does_not_heat() {
    let [plain, sampled] = [filled(), filled()];
    for turn in 0..5 {
        let key = turn * 3;
        for store in [&plain, &sampled] {
            assert!(store.load_vec(&key).unwrap().is_some());
        }
        for _ in 0..4 {
            sampled.sample_cold(usize::MAX).unwrap();
        }
        assert_eq!(plain.turn_heat_clock(), sampled.turn_heat_clock(), "turn {turn}");
    }
    let counters = |store: &Store<u64>| {
        let stats = store.stats();
        [stats.loads_hit, stats.peeks_hit, stats.peeks_missed, stats.taken, stats.stores]
    };
    assert_eq!(counters(&plain), counters(&sampled));
    let cold_blocks = |store: &Store<u64>| store.stats().cold.unwrap().blocks;
    assert_eq!(cold_blocks(&plain), cold_blocks(&sampled));
    check_books(&sampled);
}

/// Same-filled blocks are in no pool and left out. A longer value counts as its blocks. A block
/// that does not shrink is cold, too, although it stays.
#[test]
fn sample_cold_has_blocks_of_pools() {
    let store = cold_builder().build().unwrap();
    (0..10).for_each(|key| store.store(key, block(key, LEN, Look::SameFilled)).unwrap());
    let noise: Vec<Vec<u8>> = (10..20).map(|key| block(key, LEN, Look::Noise)).collect();
    (10..).zip(&noise).for_each(|(key, noise)| store.store(key, noise).unwrap());
    let large = stamped(20, 1, 4096 * 3 + 100);
    store.store(20, &large).unwrap();
    for turn in 0..4 {
        store.turn_heat_clock();
        let mut sample = store.sample_cold(usize::MAX).unwrap();
        let mut expected = noise.clone();
        expected.extend(large.chunks(4096).map(<[u8]>::to_vec));
        sample.sort();
        expected.sort();
        assert!(sample == expected, "turn {turn}: {} blocks", sample.len());
    }
    assert_eq!(store.sample_cold(12).unwrap().len(), 12);
}

/// A block that cannot be read is an error, and nothing is lost.
#[test]
fn sample_cold_of_unreadable_block_is_error() {
    let codec = CodecScript::new();
    let store = scripted(PoolScript::new(), codec.clone())
        .cold(spec("zbud+lz4"))
        .executor(Arc::new(Manual::new()))
        .build()
        .unwrap();
    (0..10).for_each(|key| store.store(key, runs(key)).unwrap());
    store.turn_heat_clock();
    for what in [OnDecompress::Fail, OnDecompress::Panic] {
        codec.on_decompress(what);
        assert!(matches!(store.sample_cold(5), Err(Error::Codec(_))));
    }
    codec.on_decompress(OnDecompress::Work);
    assert_eq!(sampled_keys(&store, 20), (0..10).collect::<Vec<_>>());
}

#[cfg(feature = "zstd")]
mod dictionary {
    use super::*;
    use zpool_zstd::{TrainError, forget, judge, remember, train, train_and_judge};
    use zswap::drain::{DrainBudget, DrainEnd};

    const RECORDS: u64 = 1600;
    const DICTIONARY_BYTES: usize = 4096;

    /// Returns a record that has its structure in common with every other one.
    fn record(n: u64) -> Vec<u8> {
        let id = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let fields = ["customer_reference", "delivery_address", "permissions", "checksum"];
        let text: String = fields
            .iter()
            .zip(1..)
            .map(|(name, at)| format!("{{\"{name}\":{},\"is_open\":false}},", id >> (8 * at)))
            .collect();
        text.into_bytes()
    }

    /// Returns a store in which every block is cold, and its plain cold pool.
    fn cold_store(count: u64, block: impl Fn(u64) -> Vec<u8>) -> Store<u64> {
        let store = cold_builder()
            .compressor(Arc::new(zpool_zstd::ZstdDriver))
            .cold(spec("zsmalloc+zstd(level=1)"))
            .build()
            .unwrap();
        (0..count).for_each(|key| store.store(key, block(key)).unwrap());
        for _ in 0..2 {
            store.turn_heat_clock();
        }
        store
    }

    /// A dictionary for cold blocks that pays by its bytes is used: the next turn of the clock or a
    /// drain ends the previous cold pool, the bytes fall, and every block is what it was.
    #[test]
    fn dictionary_that_pays_ends_plain_pool() {
        for drains in [false, true] {
            let store = cold_store(RECORDS, record);
            let sample = store.sample_cold(1000).unwrap();
            let (training, judged) = sample.split_at(800);
            // Not `train_and_judge`, whose verdict also depends on times.
            let dictionary = train(training, DICTIONARY_BYTES).unwrap();
            assert!(judge(&dictionary, judged, 1).unwrap().bytes_ratio() < 0.9);
            let before = store.stats();
            let name = remember(&dictionary).unwrap();
            store.set_cold(&spec(&format!("zsmalloc+zstd(level=1,dict={name})"))).unwrap();
            if drains {
                let report = store.drain(DrainBudget::UNLIMITED);
                assert_eq!((report.end, report.remaining), (DrainEnd::Empty, 0), "{report:?}");
            }
            // Also tries what did not become smaller without a dictionary.
            store.turn_heat_clock();
            let _ = store.manager().flush();
            let after = store.stats();
            assert_eq!(after.manager.pools_alive, 2);
            assert_eq!(after.cold.unwrap().blocks as u64, RECORDS);
            assert!(
                after.payload_bytes * 10 < before.payload_bytes * 9,
                "{} bytes became {}",
                before.payload_bytes,
                after.payload_bytes
            );
            let current = store.manager().current().unwrap();
            assert_eq!(current.spec().to_string(), "zsmalloc+lz4");
            for key in 0..RECORDS {
                assert!(store.load_vec(&key).unwrap() == Some(record(key)), "key {key}");
            }
            check_books(&store);
            forget(&name);
        }
    }

    /// No dictionary is made from cold blocks that have nothing in common.
    #[test]
    fn dictionary_for_noise_is_refused() {
        let store = cold_store(200, |key| block(key, LEN, Look::Noise));
        let sample = store.sample_cold(usize::MAX).unwrap();
        assert_eq!(sample.len(), 200);
        let refused = train_and_judge(&sample, 1, DICTIONARY_BYTES).unwrap_err();
        assert!(
            matches!(refused, TrainError::Refused(_) | TrainError::NothingShared { .. }),
            "{refused}"
        );
    }
}
