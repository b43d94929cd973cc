//! Exported blocks can be decoded without the store.

use std::sync::Arc;

use zpool_core::compress::Codec;
use zpool_lz4::Lz4Compressor;
use zswap::{EncodedBlock, Store};

const BLOCK: usize = 4096;

/// Decodes a block from its exported form, with the codec's crate alone.
fn block(form: EncodedBlock<'_>) -> Vec<u8> {
    match form {
        EncodedBlock::SameFilled { word, len } => word.into_iter().cycle().take(len).collect(),
        EncodedBlock::Raw { bytes } => bytes.to_vec(),
        EncodedBlock::Compressed { codec, bytes, len } => {
            assert_eq!(codec.to_string(), "lz4");
            let mut block = vec![0; len];
            Codec::new(Arc::new(Lz4Compressor::new()), BLOCK)
                .decompress(bytes, &mut block)
                .unwrap();
            block
        }
        other => panic!("{other:?}"),
    }
}

fn kind(form: EncodedBlock<'_>) -> &'static str {
    match form {
        EncodedBlock::SameFilled { .. } => "same-filled",
        EncodedBlock::Raw { .. } => "raw",
        EncodedBlock::Compressed { .. } => "compressed",
        _ => "another",
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn exported(
    store: &Store<&'static str>,
    key: &'static str,
) -> Option<(Vec<u8>, Vec<&'static str>, usize)> {
    let (mut bytes, mut kinds) = (Vec::new(), Vec::new());
    let visit = |form: EncodedBlock<'_>| {
        kinds.push(kind(form));
        bytes.extend(block(form));
    };
    let len = store.export(&key, visit).unwrap()?;
    Some((bytes, kinds, len))
}

#[test]
fn every_form_comes_back_without_the_store() {
    let store = Store::builder().max_value_len(1 << 20).build().unwrap();
    let text = b"a page of memory, ".repeat(200);
    let same = [1, 2, 3, 4, 5, 6, 7, 8].repeat(11)[..83].to_vec();
    let long = [text.repeat(3), noise(2 * BLOCK), vec![0; 2 * BLOCK]].concat();
    for (key, value, kinds) in [
        ("text", &text, vec!["compressed"]),
        ("same", &same, vec!["same-filled"]),
        ("noise", &noise(3000), vec!["raw"]),
    ] {
        store.store(key, value).unwrap();
        assert_eq!(exported(&store, key), Some((value.clone(), kinds, value.len())), "{key}");
    }
    store.store("long", &long).unwrap();
    let (bytes, kinds, len) = exported(&store, "long").unwrap();
    assert!(bytes == long && len == long.len());
    assert_eq!(kinds.len(), long.len().div_ceil(BLOCK), "block by block: {kinds:?}");
    assert_eq!(exported(&store, "nothing"), None);
}

#[test]
fn what_is_shown_stays_while_it_is_replaced() {
    let store = Store::builder().build().unwrap();
    let (old, new) = (b"the older block ".repeat(100), b"the newer block ".repeat(100));
    store.store("key", &old).unwrap();
    let seen = store.export(&"key", |form| {
        // No lock is held: the store can be used, and the lent bytes stay.
        store.store("key", &new).unwrap();
        assert_eq!(block(form), old);
    });
    assert_eq!(seen.unwrap(), Some(old.len()));
    assert_eq!(store.load_vec(&"key").unwrap(), Some(new));
}
