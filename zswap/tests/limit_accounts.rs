//! Bytes that count towards the limit and are easily forgotten: pools that await destruction, and
//! contexts for reading blocks of retired ones.

use std::sync::{Arc, Barrier};

use crate::common::{Look, block, builder, spec};
use zpool_core::compress::{
    CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor, CompressorDriver,
    DecompressionContext,
};
use zpool_core::exec::Manual;
use zpool_core::page::{MmapSource, PageSource};
use zpool_core::spec::{Component, Params};
use zpool_core::{CompactionBudget, CreateError};
use zswap::{AtLimit, Error, Store};

const MIB: usize = 1 << 20;

/// Pools that await destruction count as held until they are destroyed.
#[test]
fn pending_pools_count_until_destroyed() {
    let (executor, source) = (Arc::new(Manual::new()), Arc::new(MmapSource::new()));
    let limit = 8 * MIB;
    let store = builder()
        .spec(spec("zsmalloc+lz4"))
        .executor(executor.clone())
        .page_source(source.clone())
        .limit_bytes(limit)
        .at_limit(AtLimit::Evict)
        .revive(false)
        .max_pending(64)
        .build()
        .unwrap();
    let mut keys = 0..;
    for to in ["zsmalloc+rle", "zsmalloc(chain=4)+lz4", "zsmalloc(chain=4)+rle"] {
        for key in keys.by_ref().take(1500) {
            store.store(key, block(key, 4096, Look::Noise)).unwrap();
        }
        store.switch(&spec(to)).unwrap();
        store.clear();
        let (held, stats) = (store.bytes_held(), store.stats());
        assert_eq!(held, stats.bytes_held());
        assert!(
            stats.manager.pending_destroy > 0 && stats.manager.pending_destroy_bytes > 0,
            "{to}"
        );
        // Contexts and index do not use the source.
        assert!(held >= source.charged_bytes(), "{held} held, {} charged", source.charged_bytes());
        assert!(source.charged_bytes() < limit + MIB / 4, "{} charged", source.charged_bytes());
    }
    executor.run_all();
    let stats = store.stats();
    assert_eq!((stats.manager.pending_destroy, stats.manager.pending_destroy_bytes), (0, 0));
    assert_eq!(
        stats.context_bytes,
        store.manager().current().unwrap().codec().stats().context_bytes
    );
}

/// Contexts made in retired pools count towards the limit.
#[test]
fn contexts_of_retired_pools_count_towards_limit() {
    const LOADERS: u64 = 4;
    let limit = 24 * MIB;
    for at_limit in [AtLimit::Refuse, AtLimit::Evict] {
        let meet = Arc::new(Barrier::new(LOADERS as usize));
        let store = builder()
            .compressor(Arc::new(GreedyDriver(meet)))
            .spec(spec("zsmalloc+greedy"))
            .limit_bytes(limit)
            .at_limit(at_limit)
            .build()
            .unwrap();
        (0..LOADERS).for_each(|key| store.store(key, block(key, 4096, Look::Runs)).unwrap());
        store.switch(&spec("zsmalloc+lz4")).unwrap();
        // This store measures what the retired pool holds.
        store.store(1000, block(1000, 4096, Look::Noise)).unwrap();
        load_at_once(&store, LOADERS);
        assert!(
            store.stats().context_bytes >= Greedy::BYTES * LOADERS as usize,
            "all loaded at once"
        );
        for key in 1001..8000 {
            let stored = store.store(key, block(key, 4096, Look::Noise));
            if let Err(error) = stored {
                assert!(
                    matches!(error, Error::Full { .. }) && at_limit == AtLimit::Refuse,
                    "{error}"
                );
            }
            let held = store.bytes_held();
            assert!(
                held < limit + MIB / 4,
                "{held} bytes held at a limit of {limit}, {at_limit:?}"
            );
        }
    }
}

fn load_at_once(store: &Store<u64>, loaders: u64) {
    std::thread::scope(|scope| {
        for key in 0..loaders {
            scope.spawn(move || {
                assert_eq!(store.load_vec(&key).unwrap().unwrap(), block(key, 4096, Look::Runs))
            });
        }
    });
}

/// A value that could not be kept even if it were alone evicts no other block.
#[test]
fn a_value_that_can_never_fit_evicts_nothing() {
    let limit = 4 * MIB;
    let store = builder()
        .spec(spec("zsmalloc+lz4"))
        .max_value_len(64 * MIB)
        .limit_bytes(limit)
        .at_limit(AtLimit::Evict)
        .build()
        .unwrap();
    (0..500).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
    let error = store.store(7, block(1, 5 * MIB, Look::Noise)).unwrap_err();
    assert!(matches!(error, Error::Full { limit: at, .. } if at == limit), "{error}");
    // All blocks stay except the older one under the same key.
    assert_eq!((store.len(), store.stats().evicted), (499, 0));
    // A value that shrinks enough is stored, even if it is longer than the limit.
    let long = block(2, 5 * MIB, Look::Runs);
    store.store(7, &long).unwrap();
    assert!(store.load_vec(&7).unwrap().unwrap() == long);
    store.manager().current().unwrap().zpool().compact(CompactionBudget::UNLIMITED);
    assert!(store.bytes_held() <= limit + MIB / 4);
}

/// A compressor with large contexts for decompression. It makes one for each loader, because
/// loaders wait for each other.
#[derive(Debug)]
struct GreedyDriver(Arc<Barrier>);

#[derive(Debug)]
struct Greedy {
    identity: Component,
    meet: Arc<Barrier>,
}

impl Greedy {
    const BYTES: usize = 4 * MIB;
}

impl CompressorDriver for GreedyDriver {
    fn name(&self) -> &str {
        "greedy"
    }

    fn open(&self, _: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        Ok(Arc::new(Greedy { identity: Component::named("greedy"), meet: self.0.clone() }))
    }
}

impl Compressor for Greedy {
    fn identity(&self) -> &Component {
        &self.identity
    }

    fn capabilities(&self) -> CodecCapabilities {
        CodecCapabilities::new("MIT")
    }

    fn compress_bound(&self, len: usize) -> usize {
        len
    }

    fn compression_context(&self, _: usize) -> Result<Box<dyn CompressionContext>, CodecError> {
        Ok(Box::new(EveryTwentieth))
    }

    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        Ok(Box::new(Table(vec![1; Greedy::BYTES], self.meet.clone())))
    }
}

/// Every twentieth byte determines a block of runs.
#[derive(Debug)]
struct EveryTwentieth;

impl CompressionContext for EveryTwentieth {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        let short = block.iter().step_by(20);
        out.iter_mut().zip(short.clone()).for_each(|(to, from)| *to = *from);
        Ok(Compressed::Len(short.len()))
    }

    fn bytes_held(&self) -> usize {
        0
    }
}

#[derive(Debug)]
struct Table(Vec<u8>, Arc<Barrier>);

impl DecompressionContext for Table {
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        self.1.wait();
        block.chunks_mut(20).zip(compressed).for_each(|(run, byte)| run.fill(*byte));
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        self.0.len()
    }
}
