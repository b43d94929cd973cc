//! Measures one pair in a process of its own: stores every block, loads each of them, and asks the
//! OS what that cost.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use workload::{Growth, LatencyHistogram, Pages, Percentiles, Rng, refuse_huge_pages};
use zpool_core::spec::PoolSpec;
use zswap::Store;

use crate::drivers;
use crate::error::Failure;

/// The seed of the order in which blocks are loaded.
const LOAD_ORDER_SEED: u64 = 2;

/// The savings and costs of one pair. Bytes were counted when all blocks were stored and loaded
/// once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PairReport {
    pub(super) allocator: String,
    pub(super) compressor: String,
    /// Blocks of which the allocator holds an object.
    pub(super) stored: usize,
    /// Blocks kept as their one word.
    pub(super) same_filled: usize,
    /// Blocks of `stored` that did not shrink and are kept raw.
    pub(super) incompressible: usize,
    /// Blocks that the store refused.
    pub(super) rejected: usize,
    /// The lengths of all objects together.
    pub(super) payload_bytes: usize,
    /// The bytes that the allocator holds from the OS, with its metadata.
    pub(super) pool_bytes: usize,
    /// The bytes of the index.
    pub(super) index_bytes: usize,
    /// Tables and buffers of the compressor.
    pub(super) context_bytes: usize,
    /// The growth of this process, as the OS counts it.
    pub(super) resident_bytes: usize,
    pub(super) store_ns: Percentiles,
    pub(super) load_ns: Percentiles,
    /// Whether every block that was taken came back as it was, and no other did.
    pub(super) verified: bool,
}

/// Measures `spec` on `pages`.
pub(super) fn measure(spec: &PoolSpec, pages: &Pages) -> Result<PairReport, Failure> {
    refuse_huge_pages();
    let mut run = PairRun::new(pages);
    let growth = Growth::start()?;
    let block_size =
        NonZeroUsize::new(pages.block_size()).ok_or(Failure::new("blocks without bytes"))?;
    let store = drivers::store(spec, block_size).build()?;
    run.store_all(&store);
    let verified = run.load_all(&store);
    let grown = growth.bytes()?;
    let stats = store.stats();
    let spec = store.manager().current().map_or_else(|| spec.clone(), |pool| pool.spec().clone());
    let report = PairReport {
        allocator: spec.allocator.to_string(),
        compressor: spec.compressor.to_string(),
        stored: stats.stored_compressed + stats.stored_raw,
        same_filled: stats.same_filled,
        incompressible: stats.stored_raw,
        rejected: run.rejected(),
        payload_bytes: stats.payload_bytes,
        pool_bytes: stats.pool_bytes,
        index_bytes: stats.index_bytes,
        context_bytes: stats.context_bytes,
        resident_bytes: usize::try_from(grown).unwrap_or(0),
        store_ns: run.store_ns.summary(),
        load_ns: run.load_ns.summary(),
        verified,
    };
    let blocks = report.stored + report.same_filled + report.rejected;
    if blocks != pages.len() {
        return Err(Failure::new(format!(
            "{} blocks went in, but the store counts {blocks}",
            pages.len()
        )));
    }
    Ok(report)
}

/// Everything that a run needs apart from the store. It is created and touched before we count the
/// growth.
struct PairRun<'a> {
    pages: &'a Pages,
    order: Vec<u32>,
    taken: Vec<bool>,
    buffer: Vec<u8>,
    store_ns: LatencyHistogram,
    load_ns: LatencyHistogram,
}

impl<'a> PairRun<'a> {
    fn new(pages: &'a Pages) -> PairRun<'a> {
        let mut order: Vec<u32> = (0..pages.len() as u32).collect();
        Rng::new(LOAD_ORDER_SEED).shuffle(&mut order);
        // Write these vectors, because zeroed memory is not resident before.
        let mut taken = vec![true; pages.len()];
        std::hint::black_box(&mut taken).fill(false);
        let mut buffer = vec![1; pages.block_size()];
        std::hint::black_box(&mut buffer).fill(0);
        PairRun {
            pages,
            order,
            taken,
            buffer,
            store_ns: LatencyHistogram::new(),
            load_ns: LatencyHistogram::new(),
        }
    }

    fn store_all(&mut self, store: &Store<u64>) {
        for (i, block) in self.pages.iter().enumerate() {
            let stored = self.store_ns.time(|| store.store(i as u64, block));
            self.taken[i] = stored.is_ok();
        }
    }

    /// Loads the blocks in another order and compares them, outside of the timed part. Returns
    /// whether all were right.
    fn load_all(&mut self, store: &Store<u64>) -> bool {
        let mut verified = true;
        for &i in &self.order {
            let (i, key) = (i as usize, u64::from(i));
            let loaded = self.load_ns.time(|| store.load(&key, &mut self.buffer));
            verified &= match loaded {
                Ok(Some(len)) => self.taken[i] && self.buffer[..len] == *self.pages.block(i),
                Ok(None) => !self.taken[i],
                Err(_) => false,
            };
            // Whatever the next load leaves unwritten must not be this block.
            self.buffer.fill(0xA5);
        }
        verified
    }

    fn rejected(&self) -> usize {
        self.taken.iter().filter(|&&taken| !taken).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: NonZeroUsize = NonZeroUsize::new(512).unwrap();

    fn pages() -> Pages {
        Pages::from_bytes(BLOCK, (0..20 * BLOCK.get()).map(|i| (i / 3 * i) as u8).collect())
    }

    /// One changed, missing or unexpected block is noticed.
    #[test]
    fn wrong_block_is_noticed() {
        let pages = pages();
        let verified = |spoil: fn(&Store<u64>, &mut PairRun<'_>)| {
            let store = drivers::store(&"zsmalloc+lz4".parse().unwrap(), BLOCK).build().unwrap();
            let mut run = PairRun::new(&pages);
            run.store_all(&store);
            spoil(&store, &mut run);
            run.load_all(&store)
        };
        assert!(verified(|_, _| ()));
        assert!(!verified(|store, _| store.store(7, b"another block").unwrap()));
        assert!(!verified(|store, _| assert!(store.invalidate(&19))));
        // A block that is marked as rejected, but is in the store.
        assert!(!verified(|_, run| run.taken[3] = false));
    }

    #[test]
    fn the_equation_of_blocks_holds() {
        let pages = pages();
        let report = measure(&"zbud+lzo".parse().unwrap(), &pages).unwrap();
        assert_eq!(report.stored + report.same_filled + report.rejected, pages.len());
        assert!(report.verified && report.payload_bytes <= report.pool_bytes);
    }
}
