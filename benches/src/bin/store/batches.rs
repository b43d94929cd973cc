//! Batches of 64 against single calls, on the same store. Two stores with the same contents could
//! differ by where their objects lie.
//!
//! Keys come in random order, as the blocks of a cache in use, and in the order in which the pages
//! lie in memory, which the processor predicts by itself.

use workload::{Elapsed, Pages, PartWork, Report, Rng, Spread, clocked, interleave};
use zswap::Store;

use crate::{PAGE, PART, ROUNDS, filled};

const BATCH: usize = 64;

/// Loads the blocks of keys into as many buffers.
type Work<'a> = &'a dyn Fn(&[u64], &mut [[u8; 4096]]);

pub(crate) fn measure(pages: &Pages, report: &mut Report) {
    let store = filled(pages);
    let mut keys: Vec<u64> = (0..pages.len() as u64).collect();
    let mut push = |name: &str, spread: Spread| report.push(spread.figure(name, "ratio"));
    let in_order = Bench { store: &store, pages, keys: &keys };
    push("load_many_over_load_in_order", in_order.loads());
    push("store_many_over_store_in_order", in_order.stores());
    Rng::new(7).shuffle(&mut keys);
    let at_random = Bench { store: &store, pages, keys: &keys };
    push("store_many_over_store", at_random.stores());
    push("load_many_over_load", at_random.loads());
}

struct Bench<'a> {
    store: &'a Store<u64>,
    pages: &'a Pages,
    keys: &'a [u64],
}

impl Bench<'_> {
    fn part(&self, part: usize) -> &[u64] {
        &self.keys[part * PART..][..PART]
    }

    fn parts(&self) -> usize {
        self.keys.len() / PART
    }

    fn page(&self, key: u64) -> &[u8] {
        self.pages.block(key as usize)
    }

    /// Returns the throughput of batched loads over single ones.
    fn loads(&self) -> Spread {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let one_by_one = |keys: &[u64], buffers: &mut [[u8; 4096]]| {
            for (key, buffer) in keys.iter().zip(buffers) {
                self.store.load(key, buffer).expect("no fault");
            }
        };
        let at_once = |keys: &[u64], buffers: &mut [[u8; 4096]]| {
            for (keys, buffers) in keys.chunks(BATCH).zip(buffers.chunks_mut(BATCH)) {
                assert!(self.store.load_many(keys, buffers).iter().all(Result::is_ok), "no fault");
            }
        };
        let mut loads = [
            PartWork::new("load", |part| self.load(part, &mut a, &one_by_one)),
            PartWork::new("load_many", |part| self.load(part, &mut b, &at_once)),
        ];
        // Throughput is the inverse of time.
        interleave(ROUNDS, self.parts(), &mut loads).cpu.ratio(0, 1)
    }

    fn load(&self, part: usize, buffers: &mut Vec<[u8; 4096]>, work: Work<'_>) -> Elapsed {
        let keys = self.part(part);
        buffers.clear();
        buffers.resize(PART, [0xA5; PAGE.get()]);
        let (elapsed, ()) = clocked(|| work(keys, buffers));
        let right = buffers.iter().zip(keys).all(|(buffer, &key)| buffer == self.page(key));
        assert!(right, "a page came back changed");
        elapsed
    }

    /// Returns the throughput of batched stores over single ones.
    fn stores(&self) -> Spread {
        let one_by_one =
            |&key: &u64| self.store.store(key, self.page(key)).expect("there is no limit");
        let at_once = |keys: &[u64]| {
            let results = self.store.store_many(keys.iter().map(|&key| (key, self.page(key))));
            assert!(results.iter().all(Result::is_ok), "there is no limit");
        };
        let mut stores = [
            PartWork::new("store", |part| {
                clocked(|| self.part(part).iter().for_each(one_by_one)).0
            }),
            PartWork::new("store_many", |part| {
                clocked(|| self.part(part).chunks(BATCH).for_each(at_once)).0
            }),
        ];
        interleave(ROUNDS, self.parts(), &mut stores).cpu.ratio(0, 1)
    }
}
