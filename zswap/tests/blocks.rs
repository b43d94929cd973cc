//! Blocks of every kind and length go in and come out exactly, and the statistics are right.

use crate::common::{Look, SPECS, block, builder, check_books, spec, store_of};
use zswap::{AtLimit, BuildError, Error, MAX_BLOCK_SIZE, Store};

/// Blocks of every length and look are returned by every back end.
#[test]
fn every_length_comes_back_from_every_backend() {
    for text in SPECS {
        let store = store_of(text);
        let looks = [Look::SameFilled, Look::Runs, Look::Noise];
        let lengths = || (1..70).chain([100, 511, 512, 1000, 2047, 4000, 4095, 4096]);
        let blocks = || {
            lengths().flat_map(|len| looks.map(|look| (len as u64 * 4 + look as u64, len, look)))
        };
        for (key, len, look) in blocks() {
            store.store(key, block(key, len, look)).unwrap();
        }
        for (key, len, look) in blocks() {
            let expected = block(key, len, look);
            let mut buffer = [0xEE; 4100];
            assert_eq!(store.load(&key, &mut buffer).unwrap(), Some(len), "{text}");
            assert_eq!(buffer[..len], expected, "{text}: {look:?} of {len} bytes");
            assert!(buffer[len..].iter().all(|&b| b == 0xEE), "nothing is written past the block");
            assert_eq!(store.load_vec(&key).unwrap().as_ref(), Some(&expected));
            assert_eq!(store.len_of(&key), Some(len));
        }
        check_books(&store);
        assert!(store.stats().payload_bytes < blocks().map(|b| b.1).sum());
    }
}

#[test]
fn blocks_are_counted_by_kind() {
    let store = store_of("reference+rle");
    store.store(1, block(1, 4096, Look::SameFilled)).unwrap();
    store.store(2, block(2, 4096, Look::Runs)).unwrap();
    store.store(3, block(3, 4096, Look::Noise)).unwrap();
    store.store(4, [9]).unwrap();
    let stats = store.stats();
    assert_eq!(
        (stats.same_filled, stats.stored_compressed, stats.stored_raw, stats.entries),
        (2, 1, 1, 4)
    );
    let runs = 4096usize.div_ceil(20) * 2;
    assert_eq!(stats.payload_bytes, 4096 + runs, "a raw block and one that shrank");
    assert_eq!(stats.bytes_held(), stats.pool_bytes + stats.context_bytes + stats.index_bytes);
    assert!(
        stats.index_bytes > 0
            && stats.pool_bytes > stats.payload_bytes
            && stats.context_bytes >= 8192
    );

    // A key changes kind.
    store.store(2, block(2, 100, Look::Noise)).unwrap();
    store.store(3, block(3, 100, Look::SameFilled)).unwrap();
    let stats = store.stats();
    assert_eq!((stats.same_filled, stats.stored_compressed, stats.stored_raw), (3, 0, 1));
    assert_eq!((stats.payload_bytes, stats.stores), (100, 6));
    check_books(&store);

    store.clear();
    let stats = store.stats();
    assert_eq!(
        (stats.entries, stats.same_filled, stats.stored_raw, stats.payload_bytes),
        (0, 0, 0, 0)
    );
    assert_eq!(stats.invalidated, 4);
    check_books(&store);
}

/// A block that compresses to its own length is kept raw.
#[test]
fn block_that_does_not_shrink_is_kept_raw() {
    // Runs of two bytes are two bytes to a run-length coder.
    for pairs in [8, 2048, MAX_BLOCK_SIZE / 2] {
        let store =
            builder().spec(spec("reference+rle")).block_size(MAX_BLOCK_SIZE).build().unwrap();
        let equal: Vec<u8> = (0..pairs).flat_map(|i| [(i % 251) as u8; 2]).collect();
        let mut shorter = equal.clone();
        (shorter[2], shorter[3]) = (shorter[0], shorter[0]);
        store.store(1, &equal).unwrap();
        store.store(2, &shorter).unwrap();
        assert_eq!((store.stats().stored_raw, store.stats().stored_compressed), (1, 1));
        assert_eq!(store.load_vec(&1).unwrap().unwrap(), equal);
        assert_eq!(store.load_vec(&2).unwrap().unwrap(), shorter);
    }
}

#[test]
fn the_index_gives_its_memory_back_when_it_is_cleared() {
    let store = store_of("reference+rle");
    let empty = store.stats().index_bytes;
    for _ in 0..3 {
        (0..10_000).for_each(|key| store.store(key, [7; 100]).unwrap());
        assert!(store.stats().index_bytes > empty + 10_000 * 24);
        store.clear();
        assert_eq!(store.stats().index_bytes, empty);
    }
}

#[test]
fn same_filled_blocks_take_no_pool_memory() {
    let store = store_of("reference+rle");
    let before = store.stats().pool_bytes;
    for key in 0..1000 {
        store.store(key, block(key, 4096, Look::SameFilled)).unwrap();
    }
    assert_eq!(store.stats().pool_bytes, before);
}

/// Hits and misses of loads and takes are counted, and those of `contains` and `len_of` are not.
#[test]
fn hits_and_misses_are_counted() {
    let store = store_of("reference+rle");
    store.store(1, b"one two three four").unwrap();
    assert_eq!(store.load(&1, &mut [0; 18]).unwrap(), Some(18));
    assert_eq!(store.load(&2, &mut [0; 18]).unwrap(), None);
    assert_eq!(store.load_vec(&2).unwrap(), None);
    assert!(store.contains(&1) && !store.contains(&2) && store.len_of(&2).is_none());
    assert_eq!(store.take_vec(&1).unwrap().as_deref(), Some(&b"one two three four"[..]));
    assert_eq!(store.take(&1, &mut [0; 18]).unwrap(), None);
    assert!(!store.invalidate(&1));
    let stats = store.stats();
    assert_eq!((stats.loads_hit, stats.loads_missed), (1, 2));
    assert_eq!((stats.taken, stats.takes_missed, stats.invalidated), (1, 1, 0));
    assert!(store.is_empty());
}

/// A block that is too long is refused and removes the older one.
#[test]
fn too_long_block_removes_older_block() {
    let store = builder().block_size(1024).max_value_len(1024).build().unwrap();
    let kind = Error::BlockTooLong { len: 1025, max: 1024 };
    store.store(1, block(1, 1024, Look::Runs)).unwrap();
    assert_eq!(store.store(1, [7; 1025]), Err(kind));
    assert_eq!(store.load_vec(&1).unwrap(), None);
    assert_eq!(store.stats().rejected.bad_input, 1);
    check_books(&store);
}

/// The error for a buffer that is too small names the length needed, and the block stays.
#[test]
fn too_small_buffer_error_names_length() {
    let store = store_of("reference+rle");
    for look in [Look::SameFilled, Look::Runs, Look::Noise] {
        store.store(1, block(1, 3000, look)).unwrap();
        for given in [0, 1, 2999] {
            let mut buffer = vec![0xEE; given];
            let needed = Error::BufferTooSmall { needed: 3000, given };
            assert_eq!(store.load(&1, &mut buffer).unwrap_err(), needed);
            assert_eq!(store.take(&1, &mut buffer).unwrap_err(), needed);
            assert!(buffer.iter().all(|&b| b == 0xEE), "nothing was decompressed");
        }
        assert_eq!(store.load_vec(&1).unwrap().unwrap(), block(1, 3000, look));
    }
    check_books(&store);
}

#[test]
fn blocks_of_the_largest_size_are_stored() {
    for text in ["reference+rle", "zbud+lz4", "zsmalloc+lz4"] {
        let store = builder().spec(spec(text)).block_size(MAX_BLOCK_SIZE).build().unwrap();
        for (key, look) in [Look::SameFilled, Look::Runs, Look::Noise].into_iter().enumerate() {
            for len in
                [MAX_BLOCK_SIZE, MAX_BLOCK_SIZE - 1, 131_073, 65_537, 65_536, 65_535, 5_000, 20]
            {
                let expected = block(len as u64, len, look);
                store.store(key as u64, &expected).unwrap();
                assert_eq!(
                    store.load_vec(&(key as u64)).unwrap().unwrap(),
                    expected,
                    "{text}, {look:?}"
                );
            }
        }
        check_books(&store);
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    for size in [0, MAX_BLOCK_SIZE + 1] {
        assert!(
            matches!(builder().block_size(size).build(), Err(BuildError::BlockSize(s)) if s == size)
        );
    }
    for percent in [0, 101] {
        let built = builder()
            .limit_bytes(1 << 20)
            .at_limit(AtLimit::Refuse)
            .accept_percent(percent)
            .build();
        assert!(matches!(built, Err(BuildError::AcceptPercent(p)) if p == percent));
    }
    let unknown = builder().spec(spec("z3fold+lz4")).build().unwrap_err().to_string();
    assert!(unknown.contains("z3fold") && unknown.contains("zsmalloc"), "{unknown}");
    let twice =
        builder().allocator(std::sync::Arc::new(zpool_conformance::ReferenceDriver)).build();
    assert!(matches!(twice, Err(BuildError::Registry(_))));
}

/// Keys of any type and hashers of any quality work.
#[test]
fn any_key_type_and_hasher_works() {
    #[derive(Debug, Clone, Default)]
    struct Constant;
    impl std::hash::BuildHasher for Constant {
        type Hasher = Constant;
        fn build_hasher(&self) -> Constant {
            Constant
        }
    }
    impl std::hash::Hasher for Constant {
        fn write(&mut self, _: &[u8]) {}
        fn finish(&self) -> u64 {
            42
        }
    }
    let store: Store<(String, u8), Constant> = Store::builder()
        .spec(spec("reference+rle"))
        .allocator(std::sync::Arc::new(zpool_conformance::ReferenceDriver))
        .compressor(std::sync::Arc::new(crate::common::codec::RleDriver {
            script: crate::common::codec::CodecScript::new(),
        }))
        .hasher(Constant)
        .max_value_len(4096)
        .build()
        .unwrap();
    let key = |n: u64| (format!("file {n}"), n as u8);
    for n in 0..200 {
        store.store(key(n), block(n, 300, Look::Runs)).unwrap();
    }
    for n in 0..200 {
        assert_eq!(store.load_vec(&key(n)).unwrap().unwrap(), block(n, 300, Look::Runs));
    }
    let error = store.store(key(7), [7; 4097]).unwrap_err().to_string();
    assert!(error.contains("of 4097 bytes is over the 4096 allowed"), "{error}");
}

#[test]
fn clones_are_the_same_store_and_go_to_other_threads() {
    fn is_shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    let store = store_of("reference+rle");
    is_shared(&store);
    let clone = store.clone();
    std::thread::spawn(move || clone.store(1, b"from another thread, and long").unwrap())
        .join()
        .unwrap();
    assert_eq!(store.load_vec(&1).unwrap().unwrap(), b"from another thread, and long");
}
