//! Empty blocks are ordinary values.

use crate::common::{Look, SPECS, block, builder, check_books, spec};
use zswap::{AtLimit, EncodedBlock, Error, Store};

#[test]
fn empty_block_is_stored_and_loaded() {
    for text in SPECS {
        let builder = builder().spec(spec(text)).checksums(true).max_value_len(1 << 16);
        let store = builder.build().unwrap();
        store.store(1, []).unwrap();
        assert_eq!(
            (store.load(&1, &mut []), store.peek(&1, &mut [7; 3])),
            (Ok(Some(0)), Ok(Some(0)))
        );
        assert_eq!((store.load_vec(&1), store.peek_vec(&1)), (Ok(Some(vec![])), Ok(Some(vec![]))));
        assert_eq!(store.load_with(&1, <[u8]>::is_empty), Ok(Some(true)));
        assert_eq!((store.len_of(&1), store.contains(&1), store.len()), (Some(0), true, 1));
        assert_eq!(store.keys().collect::<Vec<_>>(), [1]);
        let mut seen = 0;
        let exported = store.export(&1, |form| {
            assert!(matches!(form, EncodedBlock::SameFilled { len: 0, .. }), "{form:?}");
            seen += 1;
        });
        assert_eq!((exported, seen), (Ok(Some(0)), 1));
        let stats = store.stats();
        assert_eq!((stats.entries, stats.same_filled, stats.stored_bytes), (1, 1, 0));
        assert_eq!((stats.current.objects, stats.payload_bytes, stats.rejected.total()), (0, 0, 0));
        assert_eq!(store.take(&1, &mut []), Ok(Some(0)));
        assert_eq!((store.take(&1, &mut []), store.len()), (Ok(None), 0));
        check_books(&store);
    }
}

/// An empty block replaces one of any kind, and the other way round; nothing is left over.
#[test]
fn empty_block_replaces_and_is_replaced() {
    let store = builder().max_value_len(1 << 16).build().unwrap();
    let others = [
        vec![7; 4096],
        vec![0; 8],
        vec![0],
        block(1, 4096, Look::Runs),
        block(2, 4096, Look::Noise),
        block(3, 40_000, Look::Runs),
        Vec::new(),
    ];
    for (key, other) in (0..).zip(&others) {
        for _ in 0..3 {
            store.store(key, other).unwrap();
            assert_eq!(store.load_vec(&key), Ok(Some(other.clone())));
            store.store(key, []).unwrap();
            assert_eq!((store.load_vec(&key), store.len_of(&key)), (Ok(Some(vec![])), Some(0)));
        }
    }
    let stats = store.stats();
    assert_eq!((stats.entries, stats.same_filled, stats.stored_bytes), (7, 7, 0));
    assert_eq!((stats.payload_bytes, stats.current.objects, stats.stores), (0, 0, 42));
    check_books(&store);
}

#[test]
fn empty_blocks_in_batches_are_stored_and_loaded() {
    let store = builder().build().unwrap();
    let blocks: Vec<_> = (0..40).map(|n| block(n, 100 * (n as usize % 3), Look::Noise)).collect();
    let items = blocks.iter().zip(0..).map(|(block, key)| (key, block.as_slice()));
    assert!(store.store_many(items).iter().all(Result::is_ok));
    let keys: Vec<u64> = (0..40).collect();
    let mut buffers = vec![[0xEE; 200]; 40];
    let results = store.load_many(&keys, &mut buffers);
    for ((block, result), buffer) in blocks.iter().zip(results).zip(&buffers) {
        assert_eq!(result, Ok(Some(block.len())));
        assert!(
            buffer.starts_with(block) && buffer[block.len()..].iter().all(|&byte| byte == 0xEE)
        );
    }
    let mut asked = 0;
    let removed = store.retain(|_, len| {
        asked += usize::from(len == 0);
        len > 0
    });
    assert_eq!((asked, removed, store.len()), (14, 14, 26));
    check_books(&store);
}

/// Empty blocks have the length 0 for a listener, and cost their place in the index.
#[test]
fn empty_blocks_at_the_limit_are_evicted() {
    let store: Store<u64> = builder()
        .spec(spec("reference+rle"))
        .limit_bytes(1 << 20)
        .at_limit(AtLimit::Evict)
        .on_evict(|_, len| assert_eq!(len, 0))
        .build()
        .unwrap();
    (0..100_000).for_each(|key| store.store(key, []).unwrap());
    let stats = store.stats();
    assert!(stats.evicted > 10_000 && stats.entries > 1_000, "{stats}");
    assert_eq!((stats.entries as u64 + stats.evicted, stats.listeners_panicked), (100_000, 0));
    let refusing = builder()
        .spec(spec("reference+rle"))
        .limit_bytes(1 << 20)
        .at_limit(AtLimit::Refuse)
        .build()
        .unwrap();
    let error = (0..100_000).find_map(|key| refusing.store(key, []).err()).unwrap();
    assert!(matches!(error, Error::Full { .. }), "{error}");
}
