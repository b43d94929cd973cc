//! A cache of blocks in front of a slow file: `cargo run -p zswap --example slow_file`.
//!
//! Reads go to the cache first. Blocks that are not there are read from the file and kept. The
//! cache has a limit and evicts blocks that were not read recently. A write goes to the file
//! and removes the old block from the cache, because stale data is worse than none.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use zswap::{AtLimit, Store};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 4096;
const LIMIT: usize = 4 << 20;

/// A file of blocks whose reads are as slow as those of a disk, and a cache of recent reads.
struct Cached {
    file: Mutex<File>,
    cache: Store<u64>,
    reads: AtomicU64,
}

impl Cached {
    fn new(file: File, limit_bytes: usize) -> Result<Cached, zswap::BuildError> {
        let cache = Store::builder()
            .block_size(BLOCK)
            .limit_bytes(limit_bytes)
            .at_limit(AtLimit::Evict)
            .build()?;
        Ok(Cached { file: Mutex::new(file), cache, reads: AtomicU64::new(0) })
    }

    fn read(&self, number: u64, block: &mut [u8; BLOCK]) -> std::io::Result<()> {
        // A failure of the cache is not an error, because the file has everything.
        if let Ok(Some(BLOCK)) = self.cache.load(&number, block) {
            return Ok(());
        }
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        std::thread::sleep(Duration::from_micros(100));
        self.reads.fetch_add(1, Ordering::Relaxed);
        file.seek(SeekFrom::Start(number * BLOCK as u64))?;
        file.read_exact(block)?;
        // Under the file's lock, so that no other thread writes in between. If the store fails, the
        // next read is slow again.
        let _ = self.cache.store(number, block);
        Ok(())
    }

    fn write(&self, number: u64, block: &[u8; BLOCK]) -> std::io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        self.cache.invalidate(&number);
        file.seek(SeekFrom::Start(number * BLOCK as u64))?;
        file.write_all(block)
    }
}

/// Returns a block with its number and version in it. It shrinks to about half.
fn block(number: u64, version: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (i, line) in (1..).zip(block.chunks_exact_mut(64)) {
        let sum = (number << 32 | version << 8 | i).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let text = format!("block {number} version {version} line {i} sum {sum:x}");
        line[..text.len()].copy_from_slice(text.as_bytes());
    }
    block
}

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut file = tempfile::tempfile()?;
    (0..BLOCKS).try_for_each(|number| file.write_all(&block(number, 0)))?;
    // 16 MiB of blocks behind a cache of 4 MiB, which has room for about half of them.
    let cached = Cached::new(file, LIMIT)?;
    let mut versions = vec![0; BLOCKS as usize];
    let (mut state, mut read) = (1u64, [0; BLOCK]);
    const READS: u64 = 20_000;
    for n in 0..READS {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The smaller of two numbers, so that low ones are read more often.
        let number = ((state >> 40) % BLOCKS).min((state >> 20) % BLOCKS);
        if n % 16 == 0 {
            versions[number as usize] += 1;
            cached.write(number, &block(number, versions[number as usize]))?;
        }
        cached.read(number, &mut read)?;
        assert!(read == block(number, versions[number as usize]), "never an older version");
    }
    let (reads, stats) = (cached.reads.into_inner(), cached.cache.stats());
    println!("reads             {READS}, of them {reads} from the file");
    println!("blocks evicted    {}", stats.evicted);
    println!("blocks in memory  {} of {BLOCKS}", stats.entries);
    println!("their bytes       {} in {}", stats.stored_bytes, stats.bytes_held());
    assert!(stats.evicted > 0, "more blocks were read than the cache has room for");
    assert!(reads < READS / 2 && stats.entries < BLOCKS as usize);
    assert!(stats.bytes_held() < LIMIT + (256 << 10));
    Ok(())
}
