//! The model of a region: what every byte must be, while everything runs at once.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use workload::{Rng, SeededBlocks};
use zpool_region::{Region, RegionControl};
use zswap::PoolSpec;

use super::PAGE;

/// Bytes of a piece: not a multiple of a page, so that workers share pages.
const PIECE: usize = 3000;

/// Bytes at the end of the region into which a file is read.
const DIRECT: usize = 1 << 20;

/// Pieces that a worker visits in order before it visits random ones again.
const IN_ORDER: usize = 512;

/// Pools to switch between.
const SPECS: [&str; 4] = ["zsmalloc+lz4", "zsmalloc+pagelz", "zbud+lz4", "zsmalloc+zstd"];

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Tally {
    /// Pieces that were compared with the model.
    pub(super) verified: u64,
    /// Pieces that were wrong.
    pub(super) wrong: u64,
    pub(super) switches: u64,
    pub(super) children: u64,
    pub(super) direct_reads: u64,
    pub(super) holds: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.verified += other.verified;
        self.wrong += other.wrong;
        self.switches += other.switches;
        self.children += other.children;
        self.direct_reads += other.direct_reads;
        self.holds += other.holds;
    }
}

/// The model of a region: a seed per piece, which says what was last written to it. 0 is zeros.
pub(super) struct RegionModel<'a> {
    blocks: &'a SeededBlocks,
    seeds: Vec<u64>,
    threads: usize,
    rng: Rng,
    direct: Option<DirectFile>,
}

/// A file that is read past the page cache, and its contents.
struct DirectFile {
    file: File,
    content: Vec<u8>,
}

/// The pieces of one worker, with their seeds.
struct Share<'a> {
    pieces: Vec<(&'a mut [u8], &'a mut u64)>,
    rng: Rng,
}

impl<'a> RegionModel<'a> {
    pub(super) fn new(blocks: &'a SeededBlocks, len: usize, threads: usize) -> RegionModel<'a> {
        let pieces = (len - DIRECT).div_ceil(PIECE);
        let direct = DirectFile::create();
        if direct.is_none() {
            eprintln!("zlab: no direct reads in {}", std::env::temp_dir().display());
        }
        RegionModel { blocks, seeds: vec![0; pieces], threads, rng: Rng::new(7), direct }
    }

    /// Runs workers, steering, children and direct reads for a while.
    pub(super) fn storm(
        &mut self,
        region: &mut Region,
        limit: usize,
        duration: Duration,
        tally: &mut Tally,
    ) {
        let control = region.control();
        let (len, blocks, direct) = (region.len(), self.blocks, self.direct.as_ref());
        let (memory, tail) = region.split_at_mut(len - DIRECT);
        let mut shares: Vec<Share> = (0..self.threads)
            .map(|_| Share { pieces: Vec::new(), rng: Rng::new(self.rng.next_u64()) })
            .collect();
        let pieces = memory.chunks_mut(PIECE).zip(&mut self.seeds);
        for (at, piece) in pieces.enumerate() {
            shares[at % self.threads].pieces.push(piece);
        }
        let done = AtomicBool::new(false);
        let seed = self.rng.next_u64();
        thread::scope(|scope| {
            let mut running = vec![
                scope.spawn(|| steer(&control, limit, len, &done, seed)),
                scope.spawn(|| start_children(&done)),
                scope.spawn(|| direct.map_or_else(Tally::default, |file| file.read(tail, &done))),
            ];
            for share in shares {
                running.push(scope.spawn(|| share.work(blocks, &done)));
            }
            thread::sleep(duration);
            done.store(true, Ordering::Relaxed);
            for thread in running {
                tally.add(thread.join().expect("no thread of a storm panics"));
            }
        });
    }

    /// Holds a range, verifies it while all else is put away, and discards a few pieces.
    pub(super) fn hold_and_discard(&mut self, region: &mut Region, tally: &mut Tally) {
        let mut expected = Vec::new();
        for _ in 0..8 {
            let first = self.rng.below(self.seeds.len() - 16);
            let range = first * PIECE..(first + 16) * PIECE;
            match region.hold(range) {
                Ok(held) => {
                    region.evict(0..region.len());
                    for (piece, &seed) in held.chunks(PIECE).zip(&self.seeds[first..]) {
                        verify(self.blocks, piece, seed, &mut expected, tally);
                    }
                    tally.holds += 1;
                }
                Err(error) => {
                    eprintln!("zlab: {error}");
                    tally.wrong += 1;
                }
            }
            let at = self.rng.below(self.seeds.len() - 1);
            region.discard(at * PIECE..(at + 1) * PIECE);
            self.seeds[at] = 0;
        }
    }

    /// Verifies all of it.
    pub(super) fn verify(&mut self, region: &mut Region, tally: &mut Tally) {
        let mut expected = Vec::new();
        let memory = &region[..region.len() - DIRECT];
        for (piece, &seed) in memory.chunks(PIECE).zip(&self.seeds) {
            verify(self.blocks, piece, seed, &mut expected, tally);
        }
    }
}

impl Share<'_> {
    /// Verifies pieces, and writes other contents to 1 in 3 of those at random.
    fn work(mut self, blocks: &SeededBlocks, done: &AtomicBool) -> Tally {
        let mut tally = Tally::default();
        let mut bytes = Vec::new();
        let count = self.pieces.len();
        let mut step = self.rng.below(count);
        while !done.load(Ordering::Relaxed) {
            step += 1;
            let in_order = step / IN_ORDER % 3 == 2;
            let at = if in_order { step % count } else { self.rng.below(count) };
            let (piece, seed) = &mut self.pieces[at];
            verify(blocks, piece, **seed, &mut bytes, &mut tally);
            if !in_order && self.rng.chance(0.33) {
                **seed = self.rng.next_u64() | 1;
                contents(blocks, **seed, piece.len(), &mut bytes);
                piece.copy_from_slice(&bytes);
            }
        }
        tally
    }
}

impl DirectFile {
    /// Creates a file in the folder for temporary files, which is removed with its descriptor.
    fn create() -> Option<DirectFile> {
        let path = std::env::temp_dir().join(format!("zlab-region-{}", std::process::id()));
        let byte = |at: usize| (at / PAGE.get() + at * 31) as u8 | 1;
        let content: Vec<u8> = (0..DIRECT).map(byte).collect();
        let mut file = File::create_new(&path).ok()?;
        let written = file.write_all(&content).and_then(|()| file.sync_all());
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        let opened = File::options().read(true).custom_flags(flags).open(&path);
        let _ = std::fs::remove_file(&path);
        written.ok()?;
        Some(DirectFile { file: opened.ok()?, content })
    }

    /// Reads the file into the region again and again.
    fn read(&self, tail: &mut [u8], done: &AtomicBool) -> Tally {
        let mut tally = Tally::default();
        while !done.load(Ordering::Relaxed) {
            tail.fill(0);
            let mut read = 0;
            while read < tail.len() {
                // If the kernel may not fault pages in, it reads less, or nothing, and we touch the
                // pages again.
                tail[read..].iter_mut().step_by(PAGE.get()).for_each(|byte| *byte = 0);
                match self.file.read_at(&mut tail[read..], read as u64) {
                    Ok(bytes) => read += bytes,
                    Err(_) if done.load(Ordering::Relaxed) => return tally,
                    Err(_) => thread::yield_now(),
                }
            }
            tally.direct_reads += 1;
            tally.wrong += u64::from(*tail != self.content[..]);
        }
        tally
    }
}

/// Changes the limit, switches pools, puts pages away and brings them back.
fn steer(control: &RegionControl, limit: usize, len: usize, done: &AtomicBool, seed: u64) -> Tally {
    let mut tally = Tally::default();
    let mut rng = Rng::new(seed);
    let specs = SPECS.map(|spec| spec.parse::<PoolSpec>().expect("a spec of ours"));
    while !done.load(Ordering::Relaxed) {
        let start = rng.below(len - (1 << 18));
        match rng.below(8) {
            0 => {
                let switched = control.switch(&specs[rng.below(specs.len())]);
                tally.switches += u64::from(matches!(switched, Some(Ok(_))));
            }
            1 => control.set_limit(limit - rng.below(limit / 4)),
            2..5 => control.prefetch(start..start + (1 << 18)),
            _ => {
                control.evict(start..start + (1 << 18));
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    tally
}

/// Repeatedly forks and executes a program that does nothing.
fn start_children(done: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        tally.children += u64::from(Command::new("true").status().is_ok_and(|s| s.success()));
        // At most a tenth of a processor. Bounded, because a child that was stopped takes long.
        thread::sleep((9 * start.elapsed()).min(Duration::from_secs(1)));
    }
    tally
}

fn verify(
    blocks: &SeededBlocks,
    piece: &[u8],
    seed: u64,
    expected: &mut Vec<u8>,
    tally: &mut Tally,
) {
    contents(blocks, seed, piece.len(), expected);
    tally.verified += 1;
    tally.wrong += u64::from(piece != &expected[..]);
}

/// Fills `bytes` with the contents of a piece that was written with `seed`.
fn contents(blocks: &SeededBlocks, seed: u64, len: usize, bytes: &mut Vec<u8>) {
    if seed == 0 {
        bytes.clear();
    } else {
        blocks.fill(seed, bytes);
    }
    bytes.resize(len, 0);
}
