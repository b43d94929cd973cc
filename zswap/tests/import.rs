//! Exported values come back by `import`, as they were or not at all.
#![cfg(all(feature = "zsmalloc", feature = "lz4"))]

use std::sync::Arc;

use zpool_conformance::NullDriver;
use zpool_testing::random::TestRng;
use zswap::plugin::CodecError;
use zswap::{EncodedBlock, Error, Store};

/// The form of a block, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    SameFilled([u8; 8], usize),
    Raw(Vec<u8>),
    Compressed(zswap::Component, Vec<u8>, usize),
}

impl Form {
    fn of(block: EncodedBlock<'_>) -> Form {
        match block {
            EncodedBlock::SameFilled { word, len } => Form::SameFilled(word, len),
            EncodedBlock::Raw { bytes } => Form::Raw(bytes.to_vec()),
            EncodedBlock::Compressed { codec, bytes, len } => {
                Form::Compressed(codec.clone(), bytes.to_vec(), len)
            }
            other => panic!("{other:?}"),
        }
    }

    fn lend(&self) -> EncodedBlock<'_> {
        match self {
            Form::SameFilled(word, len) => EncodedBlock::SameFilled { word: *word, len: *len },
            Form::Raw(bytes) => EncodedBlock::Raw { bytes },
            Form::Compressed(codec, bytes, len) => {
                EncodedBlock::Compressed { codec, bytes, len: *len }
            }
        }
    }
}

fn export(store: &Store<u64>, key: u64) -> Vec<Form> {
    let mut forms = Vec::new();
    store.export(&key, |block| forms.push(Form::of(block))).unwrap().unwrap();
    forms
}

fn import(store: &Store<u64>, key: u64, forms: &[Form]) -> Result<(), Error> {
    let blocks: Vec<_> = forms.iter().map(Form::lend).collect();
    store.import(key, &blocks)
}

/// Checks the books of the current pool.
fn validate(store: &Store<u64>) {
    store.manager().current().unwrap().zpool().validate().unwrap();
}

fn noise(len: usize) -> Vec<u8> {
    let mut rng = TestRng::new(7);
    (0..len).map(|_| rng.next() as u8).collect()
}

fn text(len: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| format!("row {n} of a table; ").into_bytes()).take(len).collect()
}

/// Values of every shape.
fn values() -> Vec<Vec<u8>> {
    let mixed = [text(4096), vec![7; 4096], noise(4096), text(100)].concat();
    vec![vec![], vec![1], vec![7; 4096], text(10), text(4096), noise(4096), noise(3), mixed]
}

/// Whatever is exported comes back, in the same form, with checksums or without.
#[test]
fn exported_values_come_back() {
    for checksums in [false, true] {
        let make = || Store::<u64>::builder().checksums(checksums).build().unwrap();
        let (from, to) = (make(), make());
        for (key, value) in (0..).zip(values()) {
            from.store(key, &value).unwrap();
            let forms = export(&from, key);
            to.store(key, b"older").unwrap();
            import(&to, key, &forms).unwrap();
            assert_eq!(to.load_vec(&key).unwrap(), Some(value));
            assert_eq!(export(&to, key), forms);
        }
        validate(&to);
        let empty = u64::MAX;
        to.import(empty, &[]).unwrap();
        assert_eq!(to.load_vec(&empty).unwrap(), Some(vec![]));
    }
}

/// Bytes that do not decode to their length are corrupt, and the older block is gone.
#[test]
fn damaged_forms_are_refused() {
    let store = Store::<u64>::builder().build().unwrap();
    store.store(1, text(4096)).unwrap();
    let [Form::Compressed(codec, bytes, len)] = &export(&store, 1)[..] else { panic!("text") };
    let damaged = [
        Form::Compressed(codec.clone(), bytes[..bytes.len() / 2].to_vec(), *len),
        Form::Compressed(codec.clone(), bytes.clone(), len - 1),
        Form::Compressed(codec.clone(), vec![], *len),
        Form::Compressed(codec.clone(), bytes.clone(), 0),
        Form::Compressed(codec.clone(), noise(500), *len),
    ];
    for form in damaged {
        store.store(2, b"older").unwrap();
        let error = import(&store, 2, std::slice::from_ref(&form)).unwrap_err();
        assert!(matches!(error, Error::Codec(CodecError::Corrupt)), "{form:?}: {error}");
        assert_eq!(store.load_vec(&2).unwrap(), None);
    }
}

/// Random bytes are an error, or a block of the claimed length.
#[test]
fn hostile_forms_do_no_harm() {
    let store = Store::<u64>::builder().build().unwrap();
    store.store(0, text(4096)).unwrap();
    let [Form::Compressed(codec, bytes, _)] = &export(&store, 0)[..] else { panic!("text") };
    let mut rng = TestRng::new(1);
    for key in 1..2000 {
        let mut bytes = bytes[..rng.below(bytes.len()) + 1].to_vec();
        (0..rng.below(4)).for_each(|_| {
            let at = rng.below(bytes.len());
            bytes[at] = rng.next() as u8;
        });
        let len = rng.below(4096) + 1;
        let form = Form::Compressed(codec.clone(), bytes, len);
        match import(&store, key, &[form]) {
            Ok(()) => assert_eq!(store.load_vec(&key).unwrap().unwrap().len(), len),
            Err(error) => assert!(matches!(error, Error::Codec(_)), "{error}"),
        }
    }
    validate(&store);
}

/// After a switch, a block of a retired pool's codec is stored anew. A codec that no pool has is
/// refused.
#[test]
fn blocks_of_other_codecs_are_stored_anew() {
    let store = Store::<u64>::builder().compressor(Arc::new(NullDriver)).build().unwrap();
    store.store(1, text(4096)).unwrap();
    let forms = export(&store, 1);
    store.switch(&"zsmalloc+null".parse().unwrap()).unwrap();
    import(&store, 2, &forms).unwrap();
    assert_eq!(store.load_vec(&2).unwrap(), Some(text(4096)));
    assert!(matches!(export(&store, 2)[..], [Form::Raw(_)]));
    store.invalidate(&1);
    store.manager().flush().unwrap();
    let error = import(&store, 2, &forms).unwrap_err();
    assert!(matches!(&error, Error::UnknownCodec { codec } if codec == "lz4"), "{error}");
    assert_eq!(store.load_vec(&2).unwrap(), None);
}

/// Lengths beyond the store's, and blocks that are no whole ones, are refused.
#[test]
fn forms_of_other_sizes_are_refused() {
    let store = Store::<u64>::builder().max_value_len(10_000).build().unwrap();
    let refused = |forms: &[Form]| import(&store, 1, forms).unwrap_err();
    let block = |len| Form::Raw(noise(len));
    assert!(matches!(refused(&[block(4097)]), Error::BlockTooLong { len: 4097, max: 4096 }));
    let long = [block(4096), block(4096), block(4096)];
    assert!(matches!(refused(&long), Error::BlockTooLong { len: 12_288, max: 10_000 }));
    let forged = Form::SameFilled([0; 8], usize::MAX);
    assert!(matches!(refused(&[forged.clone(), forged]), Error::BlockTooLong { .. }));
    for blocks in [[block(100), block(4096)], [block(4096), block(0)]] {
        assert!(matches!(refused(&blocks), Error::UnevenBlocks { block_size: 4096, .. }));
    }
}

/// A full store refuses an import, as it refuses a store.
#[test]
fn full_store_refuses_imports() {
    let from = Store::<u64>::builder().build().unwrap();
    from.store(1, text(4096)).unwrap();
    let forms = export(&from, 1);
    let to = Store::<u64>::builder().limit_bytes(1 << 20).at_limit(zswap::AtLimit::Refuse);
    let to = to.build().unwrap();
    let error = (0..100_000).find_map(|key| import(&to, key, &forms).err()).unwrap();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    validate(&to);
}
