//! Density over time: fill, 4n random replacements, half freed at random, compacted. Bytes held over bytes of live payload.
//!
//! ```text
//! cargo run --release -p zpool-zsmalloc --example density -- PAGES... [--repeat N] [--max-blocks N] [--params step=8,chain=16]
//! ```
//!
//! PAGES are files of raw 4 KiB pages; same-filled ones are left out, the others compressed with lz4. Beside what the pool says it holds stands what the operating system says it
//! holds more than before (`Private_Dirty` of `/proc/self/smaps_rollup`), where there is such a file.

use std::sync::Arc;
use std::time::Instant;

use zpool_core::exec::Manual;
use zpool_core::page::default_source;
use zpool_core::spec::Component;
use zpool_core::{CompactionBudget, Handle, PoolConfig, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

const BLOCK: usize = 4096;

struct Options {
    files: Vec<String>,
    repeat: usize,
    max_blocks: usize,
    params: String,
}

fn main() {
    let options = options();
    for file in &options.files {
        let objects = compress(file, &options);
        let payload: usize = objects.iter().map(Vec::len).sum();
        println!("{file}: {} objects, {:.1} MiB of payload", objects.len(), payload as f64 / 1048576.0);
        run(&objects, &options.params);
    }
}

fn run(objects: &[Vec<u8>], params: &str) {
    let executor = Arc::new(Manual::new());
    let spec: Component = format!("zsmalloc{params}").parse().expect("parameters");
    let config =
        PoolConfig::new(default_source(), BLOCK).with_params(spec.params).with_executor(executor.clone());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let n = objects.len();
    let mut live: Vec<Option<(Handle, usize)>> = Vec::with_capacity(n);
    let before = private_dirty();
    let pool = ZsmallocDriver.create(&config).expect("good parameters");
    let report = |stage: &str, live: &[Option<(Handle, usize)>]| {
        executor.run_all();
        let payload: usize = live.iter().flatten().map(|&(_, i)| objects[i].len()).sum();
        let held = pool.bytes_held();
        let resident = private_dirty().zip(before).map(|(now, before)| now.saturating_sub(before));
        let s = pool.stats();
        let part = |bytes: usize| bytes as f64 / payload as f64;
        println!(
            "  {stage:10} {:.4}  (resident {:.4}; rounding {:.4} tail {:.4} fragmentation {:.4} metadata {:.4}; moved {})",
            part(held),
            resident.map_or(f64::NAN, part),
            part(s.rounding_bytes),
            part(s.tail_bytes),
            part(s.fragmentation_bytes),
            part(s.metadata_bytes),
            s.moved_objects
        );
        assert_eq!(s.pool_bytes(), held);
        pool.validate().expect("valid");
    };
    live.extend((0..n).map(|i| Some((pool.insert(&objects[i]).expect("memory"), i))));
    report("fill", &live);
    for _ in 0..4 * n {
        let (at, with) = (random.below(n), random.below(n));
        if let Some((handle, _)) = live[at].take() {
            pool.free(handle).expect("our handle");
        }
        live[at] = Some((pool.insert(&objects[with]).expect("memory"), with));
        executor.run_all();
    }
    report("churn", &live);
    for slot in &mut live {
        if random.below(2) == 0
            && let Some((handle, _)) = slot.take()
        {
            pool.free(handle).expect("our handle");
        }
    }
    report("half freed", &live);
    let begun = Instant::now();
    let compaction = pool.compact(CompactionBudget::UNLIMITED);
    let took = begun.elapsed();
    pool.trim();
    report("compacted", &live);
    println!("  {compaction:?} in {took:?}; again: {:?}", pool.compact(CompactionBudget::UNLIMITED));
    for (handle, i) in live.iter().flatten() {
        assert_eq!(&*pool.read(handle).expect("live"), &objects[*i][..], "object {i}");
    }
}

fn compress(file: &str, options: &Options) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let pages = bytes.chunks_exact(BLOCK).filter(|page| page.chunks_exact(8).any(|word| word != &page[..8]));
    let packed: Vec<Vec<u8>> = pages
        .map(|page| {
            let packed = lz4_flex::block::compress(page);
            if packed.len() < BLOCK { packed } else { page.to_vec() }
        })
        .collect();
    let repeated = (0..options.repeat).flat_map(|_| packed.iter().cloned());
    repeated.take(options.max_blocks).collect()
}

/// Bytes of this process's own memory that are resident.
fn private_dirty() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find(|line| line.starts_with("Private_Dirty:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? * 1024)
}

fn options() -> Options {
    let mut options = Options { files: vec![], repeat: 1, max_blocks: usize::MAX, params: String::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok()).expect("a number");
        match arg.as_str() {
            "--repeat" => options.repeat = number(),
            "--max-blocks" => options.max_blocks = number(),
            "--params" => options.params = format!("({})", args.next().expect("parameters")),
            _ => options.files.push(arg),
        }
    }
    options
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}
