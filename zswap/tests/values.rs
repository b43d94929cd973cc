//! Values longer than a block, checksums, minimum gain, and ways to look.

use crate::common::codec::{CodecScript, OnCompress, OnDecompress};
use crate::common::pool::{OnInsert, OnRead, PoolScript};
use crate::common::{Look, block, builder, check_books, scripted, spec, store_of};
use zswap::plugin::CodecError;
use zswap::{AtLimit, BuildError, Error, Store};

/// Returns a value with blocks of every kind.
fn value(seed: u64, len: usize) -> Vec<u8> {
    let looks = [Look::Runs, Look::Noise, Look::SameFilled];
    let parts = len.div_ceil(1024);
    let part = |n: usize| block(seed + n as u64, 1024, looks[n % looks.len()]);
    let mut value: Vec<u8> = (0..parts).flat_map(part).collect();
    value.truncate(len);
    value
}

#[test]
fn values_of_any_length_come_back_whole() {
    for text in ["reference+rle", "zbud+lz4", "zsmalloc+lz4"] {
        let store = builder()
            .spec(spec(text))
            .block_size(1024)
            .max_value_len(1 << 20)
            .checksums(true)
            .build()
            .unwrap();
        let lens = [1, 1023, 1024, 1025, 2047, 2048, 2049, 5_000, 70_000, 1 << 20];
        for (key, len) in lens.into_iter().enumerate() {
            store.store(key as u64, value(key as u64, len)).unwrap();
        }
        check_books(&store);
        assert_eq!(store.stats().large_values, 7);
        assert_eq!(store.stats().stored_bytes, lens.iter().sum());
        for (key, len) in lens.into_iter().enumerate() {
            let key = key as u64;
            let expected = value(key, len);
            assert_eq!(store.len_of(&key), Some(len));
            assert_eq!(store.load_vec(&key).unwrap().as_ref(), Some(&expected));
            assert_eq!(store.peek_vec(&key).unwrap().as_ref(), Some(&expected));
            assert_eq!(store.load_with(&key, |bytes| bytes == expected).unwrap(), Some(true));
            let short = store.load(&key, &mut vec![0; len - 1]).unwrap_err();
            assert_eq!(short, Error::BufferTooSmall { needed: len, given: len - 1 });
            assert_eq!(store.take_vec(&key).unwrap().as_ref(), Some(&expected));
        }
        assert!(store.is_empty());
        check_books(&store);
        let too_long = store.store(1, value(1, (1 << 20) + 1)).unwrap_err();
        assert_eq!(too_long, Error::BlockTooLong { len: (1 << 20) + 1, max: 1 << 20 });
    }
}

#[test]
fn a_long_value_is_there_whole_or_not_at_all() {
    let (pool, codec) = (PoolScript::new(), CodecScript::new());
    let store = scripted(pool.clone(), codec.clone())
        .block_size(1024)
        .max_value_len(1 << 16)
        .build()
        .unwrap();
    store.store(1, value(1, 20_000)).unwrap();
    assert!(pool.live() > 10);
    pool.on_insert(OnInsert::OutOfMemory);
    store.store(1, value(2, 20_000)).unwrap_err();
    assert_eq!((store.len(), pool.live()), (0, 0));
    pool.on_insert(OnInsert::Work);
    store.store(1, value(1, 20_000)).unwrap();
    codec.on_compress(OnCompress::Panic);
    store.store(1, value(2, 20_000)).unwrap_err();
    assert_eq!((store.len(), pool.live()), (0, 0));
    codec.on_compress(OnCompress::Work);
    // A part that cannot be read: the load fails, the value stays and can be removed.
    store.store(1, value(1, 20_000)).unwrap();
    pool.on_read(OnRead::Fail);
    store.load_vec(&1).unwrap_err();
    store.take_vec(&1).unwrap_err();
    pool.on_read(OnRead::Work);
    assert_eq!(store.load_vec(&1).unwrap().unwrap(), value(1, 20_000));
    assert!(store.invalidate(&1));
    assert_eq!(pool.live(), 0);
}

#[test]
fn long_values_are_evicted_whole() {
    let store = builder()
        .spec(spec("zsmalloc+lz4"))
        .max_value_len(1 << 20)
        .limit_bytes(4 << 20)
        .at_limit(AtLimit::Evict)
        .build()
        .unwrap();
    for key in 0..200 {
        store.store(key, value(key, 100_000)).unwrap();
        assert!(store.bytes_held() < 5 << 20);
    }
    let left: Vec<u64> = store.keys().collect();
    assert!((10..100).contains(&left.len()), "{}", left.len());
    assert!(left.iter().all(|&key| store.load_vec(&key).unwrap().unwrap() == value(key, 100_000)));
    check_books(&store);
}

/// With checksums every flipped bit is an error, and the block can be removed (B36).
#[test]
fn b36_checksum_finds_every_flipped_bit() {
    for compressor in ["rle", "lz4"] {
        let (pool, codec) = (PoolScript::new(), CodecScript::new());
        let spec = spec(&format!("scripted+{compressor}"));
        let store = scripted(pool.clone(), codec).spec(spec).checksums(true).build().unwrap();
        for key in 0..300 {
            let expected = block(
                key,
                1 + key as usize * 13,
                if key % 4 == 0 { Look::Noise } else { Look::Runs },
            );
            store.store(key, &expected).unwrap();
            if expected.len() > 40 {
                pool.on_read(OnRead::Flip);
                assert_eq!(store.load_vec(&key).unwrap_err(), Error::Codec(CodecError::Corrupt));
                assert_eq!(store.take_vec(&key).unwrap_err(), Error::Codec(CodecError::Corrupt));
                pool.on_read(OnRead::Work);
            }
            assert_eq!(store.load_vec(&key).unwrap().unwrap(), expected);
        }
        assert!(store.stats().decompress_failed > 500);
        // Checksums stay with their entries, whatever is removed around them.
        (0..300).filter(|key| key % 3 == 0).for_each(|key| assert!(store.invalidate(&key)));
        for key in (0..300).filter(|key| key % 3 != 0) {
            assert!(store.load_vec(&key).unwrap().is_some());
        }
        store.clear();
        assert_eq!(pool.live(), 0);
    }
}

#[test]
fn a_checksum_costs_four_bytes_a_place() {
    let bytes = |checksums| {
        let store = builder().spec(spec("reference+rle")).checksums(checksums).build().unwrap();
        let empty = store.stats().index_bytes;
        (0..20_000).for_each(|key| store.store(key, [7; 100]).unwrap());
        store.stats().index_bytes - empty
    };
    let (with, without) = (bytes(true), bytes(false));
    // The shard of a key differs from store to store.
    let share = with as f64 / without as f64;
    assert!((share - 28.0 / 24.0).abs() < 0.06, "24 bytes without, 28 with: {share}");
}

#[test]
fn a_block_that_gains_too_little_is_kept_raw() {
    // Runs of 20 bytes: two bytes each.
    let len = 2000;
    for (percent, raw) in [(0, 0), (50, 0), (90, 0), (91, 1), (99, 1)] {
        let store =
            builder().spec(spec("reference+rle")).min_gain_percent(percent).build().unwrap();
        let block: Vec<u8> = (0..len / 20).flat_map(|i| [i as u8 + 1; 20]).collect();
        store.store(1, &block).unwrap();
        assert_eq!(store.stats().stored_raw, raw, "{percent} %");
        assert_eq!(store.load_vec(&1).unwrap().unwrap(), block);
    }
    assert!(matches!(
        builder().min_gain_percent(100).build(),
        Err(BuildError::MinGainPercent(100))
    ));
    let short = builder().max_value_len(4095).build();
    assert!(matches!(short, Err(BuildError::MaxValueLen { bytes: 4095, block_size: 4096 })));
}

#[test]
fn noise_is_not_shown_to_the_compressor_unless_asked() {
    let codec = CodecScript::new();
    let store = scripted(PoolScript::new(), codec.clone()).build().unwrap();
    codec.on_compress(OnCompress::Fail);
    store.store(1, block(1, 4096, Look::Noise)).unwrap();
    store.store(2, block(1, 4096, Look::Runs)).unwrap_err();
    assert_eq!((store.stats().stored_raw, store.stats().incompressible_skipped), (1, 1));
    let asking =
        scripted(PoolScript::new(), codec.clone()).skip_incompressible(false).build().unwrap();
    asking.store(1, block(1, 4096, Look::Noise)).unwrap_err();
}

#[test]
fn load_with_may_load_inside_and_panic() {
    let store = store_of("reference+rle");
    (0..3).for_each(|key| store.store(key, block(key, 1000 + key as usize, Look::Runs)).unwrap());
    let nested = store.load_with(&1, |outer| {
        let inner = store.load_with(&2, <[u8]>::to_vec).unwrap().unwrap();
        (outer.to_vec(), inner)
    });
    assert_eq!(nested.unwrap().unwrap(), (block(1, 1001, Look::Runs), block(2, 1002, Look::Runs)));
    let panics =
        std::panic::AssertUnwindSafe(|| store.load_with(&1, |_| panic!("a closure that panics")));
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(store.load_with(&0, <[u8]>::len).unwrap(), Some(1000));
    assert_eq!(store.load_with(&7, <[u8]>::len).unwrap(), None);
}

#[test]
fn load_with_works_while_its_thread_ends() {
    use std::cell::Cell;
    struct Late(Store<u64>, std::sync::mpsc::Sender<Option<usize>>);
    impl Drop for Late {
        fn drop(&mut self) {
            self.1.send(self.0.load_with(&1, <[u8]>::len).unwrap()).unwrap();
        }
    }
    thread_local!(static LATE: Cell<Option<Late>> = const { Cell::new(None) });

    let (store, (tell, told)) = (store_of("zsmalloc+lz4"), std::sync::mpsc::channel());
    store.store(1, block(1, 1000, Look::Runs)).unwrap();
    std::thread::spawn(move || {
        // Thread-locals are destroyed in the reverse order of their first use: the buffer before
        // this one.
        LATE.set(Some(Late(store.clone(), tell)));
        store.load_with(&1, |_| ()).unwrap();
    })
    .join()
    .unwrap();
    assert_eq!(told.recv().unwrap(), Some(1000));
}

/// `retain` leaves the block that replaces the one that it asks about.
#[test]
fn retain_keeps_newer_block() {
    for text in crate::common::SPECS {
        let store = builder().spec(spec(text)).max_value_len(1 << 16).build().unwrap();
        for len in [100, 1000, 40_000] {
            store.store(1, block(1, len, Look::Runs)).unwrap();
            let removed = store.retain(|&key, _| {
                // Twice, so that the second may get the memory of the block that `retain` asks
                // about, if that is free.
                store.store(key, block(2, len, Look::Runs)).unwrap();
                store.store(key, block(3, len, Look::Runs)).unwrap();
                false
            });
            assert_eq!(removed, 0, "{text}, {len} bytes");
            assert_eq!(store.load_vec(&1).unwrap(), Some(block(3, len, Look::Runs)));
            assert_eq!(store.retain(|_, _| false), 1);
        }
        check_books(&store);
    }
}

/// A block that could not be read when `keep` rejected it is removed, whether or not it has become
/// readable. A newer one that replaced it stays.
#[test]
fn retain_removes_unreadable_block() {
    let script = PoolScript::new();
    let store = scripted(script.clone(), CodecScript::new()).build().unwrap();
    let new = block(2, 4096, Look::Runs);
    for (replaced, readable) in [(true, true), (true, false), (false, true), (false, false)] {
        store.store(1, block(1, 4096, Look::Runs)).unwrap();
        script.on_read(OnRead::Fail);
        let removed = store.retain(|&key, _| {
            if readable {
                script.on_read(OnRead::Work);
            }
            if replaced {
                store.store(key, &new).unwrap();
            }
            false
        });
        script.on_read(OnRead::Work);
        assert_eq!((removed, store.contains(&1)), (usize::from(!replaced), replaced));
        assert_eq!(store.take_vec(&1).unwrap(), replaced.then(|| new.clone()));
    }
    check_books(&store);
}

#[test]
fn keys_and_retain() {
    let store = builder().max_value_len(1 << 16).build().unwrap();
    (0..5_000u64)
        .for_each(|key| store.store(key, block(key, 100 + key as usize, Look::Runs)).unwrap());
    let mut keys: Vec<u64> = store.keys().collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(0..5_000));
    let before = store.stats().index_bytes;
    let removed = store.retain(|&key, len| {
        assert_eq!(len, 100 + key as usize);
        // Not under a lock.
        assert!(store.contains(&key));
        key % 5 == 0
    });
    assert_eq!((removed, store.len(), store.stats().invalidated), (4_000, 1_000, 4_000));
    assert!(store.stats().index_bytes < before / 2, "it gives memory back");
    assert!((0..5_000).all(|key| store.contains(&key) == (key % 5 == 0)));
    check_books(&store);
}

/// The statistics can be printed, and calls are timed if the builder asks for it.
#[test]
fn stats_display_and_latencies() {
    let store = builder()
        .latency_histograms(true)
        .limit_bytes(64 << 20)
        .at_limit(AtLimit::Refuse)
        .build()
        .unwrap();
    assert!(builder().build().unwrap().stats().latencies.is_none());
    (0..100u64).for_each(|key| store.store(key, block(key, 4096, Look::Runs)).unwrap());
    (0..150u64).for_each(|key| drop(store.load_vec(&key).unwrap()));
    let stats = store.stats();
    let latencies = stats.latencies.expect("asked for");
    assert_eq!((latencies.store.calls, latencies.load.calls), (100, 150));
    assert!(
        latencies.store.p50 <= latencies.store.p99 && latencies.store.p99 <= latencies.store.max
    );
    let text = stats.to_string();
    for part in ["100 compressed", "limit 64.0", "100 hit, 50 missed: 66.7 %", "p99", "0 full"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(stats.current.pool_bytes(), stats.pool_bytes);
}

#[test]
fn a_store_that_wipes_takes_only_allocators_that_do() {
    let store = builder().wipe_on_free(true).spec(spec("zsmalloc+lz4")).build().unwrap();
    (0..200u64).for_each(|key| store.store(key % 50, block(key, 3000, Look::Runs)).unwrap());
    let refused = store.set_allocator(&"reference".parse().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("cannot wipe freed objects"), "{refused}");
    store.set_allocator(&"zbud".parse().unwrap()).unwrap();
    (0..50).step_by(2).for_each(|key| assert!(store.invalidate(&key)));
    (0..50u64).for_each(|key| {
        let expected = (key % 2 == 1).then(|| block(150 + key, 3000, Look::Runs));
        assert_eq!(store.load_vec(&key).unwrap(), expected);
    });
    check_books(&store);
    assert!(builder().wipe_on_free(true).spec(spec("reference+lz4")).build().is_err());
}

#[test]
#[cfg(target_os = "linux")]
fn pool_memory_is_left_out_of_core_dumps_when_asked() {
    /// Returns the MiB of this process that are left out of core dumps.
    fn excluded() -> usize {
        let (mut excluded, mut kib) = (0, 0);
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            if let Some(size) = line.strip_prefix("Size:") {
                kib = size.trim().trim_end_matches(" kB").parse().unwrap();
            } else if line
                .strip_prefix("VmFlags:")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "dd"))
            {
                excluded += kib;
            }
        }
        excluded / 1024
    }
    let (before, store) = (
        excluded(),
        builder().exclude_from_dumps(true).spec(spec("zsmalloc+lz4")).build().unwrap(),
    );
    store.store(1, block(1, 4096, Look::Noise)).unwrap();
    assert!(excluded() >= before + 16, "an arena");
    assert_eq!(store.load_vec(&1).unwrap().unwrap(), block(1, 4096, Look::Noise));
}

#[test]
fn b9_a_load_that_fails_anywhere_leaves_no_pin_behind() {
    let codec = CodecScript::new();
    let store = scripted(PoolScript::new(), codec.clone())
        .spec(spec("zsmalloc+rle"))
        .max_value_len(1 << 14)
        .build()
        .unwrap();
    let fill = || {
        for key in 0..40 {
            store.store(key, block(key, 500 + 200 * key as usize, Look::Runs)).unwrap();
        }
    };
    for fail in [OnDecompress::Fail, OnDecompress::Panic] {
        fill();
        codec.on_decompress(fail);
        for key in 0..40 {
            store.load_vec(&key).unwrap_err();
            store.peek_vec(&key).unwrap_err();
            store.take_vec(&key).unwrap_err();
            store.load_with(&key, |_| unreachable!("nothing was loaded")).unwrap_err();
            store.load(&key, &mut [0; 10]).unwrap_err();
            store.load_many(&[key], &mut [vec![0; 9_000]])[0].as_ref().unwrap_err();
        }
        codec.on_decompress(OnDecompress::Work);
        let pool = store.manager().current().unwrap();
        assert!(pool.zpool().stats().groups.iter().all(|group| group.pinned == 0));
        let report = pool.zpool().compact(zswap::CompactionBudget::UNLIMITED);
        assert_eq!(report.pinned_objects, 0);
        store.clear();
        assert_eq!((pool.zpool().stats().objects, pool.zpool().stats().zombies), (0, 0));
        pool.zpool().validate().unwrap();
    }
}
