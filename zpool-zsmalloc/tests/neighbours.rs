//! Scenario B16: an object in a class that is too small for it overwrites its neighbour. Every byte
//! of an object stays as it is when others are written before it, after it, and in the gap next to
//! it. This holds for every length and every limit of the chain, and for objects longer than a
//! frame.

use std::collections::HashMap;
use std::sync::Arc;

use zpool_core::page::HeapSource;
use zpool_core::spec::Component;
use zpool_core::{Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zsmalloc::{ClassConfig, ClassTable, SizeClass, ZsmallocDriver};

use crate::common::Random;

/// Under miri a sample of lengths and chains has to suffice.
const EVERY: usize = if cfg!(miri) { 61 } else { 1 };

/// Neighbouring objects of one length.
const COPIES: usize = 3;

/// Every length, under every limit of the chain.
#[test]
fn b16_neighbours_stay_intact_in_every_chain() {
    let canaries = Canaries::new(4096);
    for (params, classes) in tables(ClassConfig::new(4096, 4096)) {
        let lengths: Vec<_> = (1..=4096).step_by(EVERY).collect();
        canaries.check(&params, &classes, 4096, &lengths, 4096);
    }
}

/// The shortest and longest objects of every class: in larger frames, with other steps, and for
/// objects longer than the chain may be.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long; CI runs it optimized")]
fn b16_neighbours_stay_intact_in_every_class() {
    for (frame_size, step, max) in [(4096, 8, 9001), (16_384, 64, 16_384), (65_536, 256, 40_000)] {
        let canaries = Canaries::new(max);
        let config = ClassConfig { frame_size, step, ..ClassConfig::new(frame_size, max) };
        for (params, classes) in tables(config) {
            let both_ends = |class: &SizeClass| {
                let longest = (class.slot_bytes as usize).min(max);
                [class.shortest as usize, longest - 1, longest]
            };
            let lengths: Vec<_> = classes.iter().step_by(EVERY).flat_map(both_ends).collect();
            canaries.check(&params, &classes, frame_size, &lengths, max);
        }
    }
}

/// Returns the tables of every limit of the chain, with their parameters. Tables that two limits
/// share come once.
fn tables(config: ClassConfig) -> Vec<(String, Vec<SizeClass>)> {
    let mut seen: HashMap<Vec<(u32, u16)>, usize> = HashMap::new();
    let mut tables = Vec::new();
    for chain in (1..=64).step_by(EVERY) {
        let classes = ClassTable::new(ClassConfig { chain, ..config }).unwrap().classes().to_vec();
        let key = classes.iter().map(|class| (class.slot_bytes, class.frames)).collect();
        if seen.insert(key, chain).is_none() {
            tables.push((format!("chain={chain},step={}", config.step), classes));
        }
    }
    tables
}

/// Bytes of which each object has its own part, so that bytes of another object are noticed.
struct Canaries {
    bytes: Vec<u8>,
}

impl Canaries {
    /// Makes bytes for objects of up to `max` bytes.
    fn new(max: usize) -> Canaries {
        let mut random = Random(0x2545_F491_4F6C_DD1D);
        Canaries { bytes: (0..max + 8192).map(|_| random.below(256) as u8).collect() }
    }

    /// Returns the bytes of object `number`, which has `len` bytes.
    fn object(&self, number: usize, len: usize) -> &[u8] {
        let from = number * 31 % (self.bytes.len() - len);
        &self.bytes[from..from + len]
    }

    /// Fills a pool in the order of `lengths`, so that consecutive objects share a zspage. Then
    /// frees the middle one of each length, and writes others into the gaps, the longest first.
    fn check(
        &self,
        params: &str,
        classes: &[SizeClass],
        frame_size: usize,
        lengths: &[usize],
        max: usize,
    ) {
        let spec: Component = format!("z({params})").parse().unwrap();
        let config =
            PoolConfig::new(Arc::new(HeapSource::new(frame_size)), max).with_params(spec.params);
        assert_eq!(ZsmallocDriver.classes(&config).unwrap(), classes, "the pool is of this table");
        let pool = ZsmallocDriver.create(&config).unwrap();
        let insert = |number: usize, len: usize| {
            (pool.insert(self.object(number, len)).unwrap(), number, len)
        };
        let copies = lengths.iter().flat_map(|&len| [len; COPIES]).enumerate();
        let mut written: Vec<_> = copies.map(|(number, len)| insert(number, len)).collect();
        self.read_all(&*pool, &written, params);
        for middle in (0..lengths.len()).rev().map(|at| at * COPIES + COPIES / 2) {
            pool.free(written.swap_remove(middle).0).unwrap();
        }
        self.read_all(&*pool, &written, params);
        let numbers = lengths.len() * COPIES..;
        written.extend(numbers.zip(lengths.iter().rev()).map(|(number, &len)| insert(number, len)));
        self.read_all(&*pool, &written, params);
        pool.validate().unwrap();
    }

    fn read_all(&self, pool: &dyn ZPool, written: &[(Handle, usize, usize)], params: &str) {
        for (handle, number, len) in written {
            let same = *pool.read(handle).unwrap() == *self.object(*number, *len);
            assert!(same, "object {number} of {len} bytes, {params}");
        }
    }
}
