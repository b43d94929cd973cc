//! A buffer pool in front of a slow file: `cargo run -p zswap-cache --example buffer_pool`.
//!
//! Pages are read once however many threads miss them, and changed in place without a lock of the
//! program's: `update` repeats a change that met another one. The catalogue's pages are pinned.
//! Pages are `(file, number)` and cost no allocation to look up.

use std::sync::atomic::{AtomicU64, Ordering};

use zswap::SequentialKeys;
use zswap_cache::{Cache, CacheError};

const PAGE: usize = 4096;

type PageId = (u32, u64);

struct BufferPool {
    pages: Cache<PageId, SequentialKeys>,
    reads: AtomicU64,
}

impl BufferPool {
    fn new(limit_bytes: usize) -> Result<BufferPool, zswap_cache::CacheBuildError> {
        let builder = Cache::builder().hasher(SequentialKeys::default()).block_size(PAGE);
        let pages = builder.limit_bytes(limit_bytes).build()?;
        Ok(BufferPool { pages, reads: AtomicU64::new(0) })
    }

    /// Reads a page, from the file if it is not here.
    fn read(&self, page: PageId) -> Result<Vec<u8>, CacheError> {
        self.pages.get_or_insert_with(&page, || {
            self.reads.fetch_add(1, Ordering::Relaxed);
            on_disk(page)
        })
    }

    /// Adds to the counter at the head of a page.
    fn add(&self, page: PageId, amount: u64) -> Result<u64, CacheError> {
        loop {
            let added = self.pages.update(&page, |bytes| {
                let (head, _) = bytes.split_at_mut(8);
                let sum = u64::from_le_bytes(head.try_into().expect("8 bytes")) + amount;
                head.copy_from_slice(&sum.to_le_bytes());
                sum
            })?;
            match added {
                Some(sum) => return Ok(sum),
                None => drop(self.read(page)?),
            }
        }
    }
}

/// Returns a page as the file has it: a counter, and rows of text.
fn on_disk((file, number): PageId) -> Vec<u8> {
    let row = |n: usize| format!("file {file} page {number} row {n};").into_bytes();
    let mut page = vec![0; 8];
    page.extend((0..).flat_map(row).take(PAGE - 8));
    page
}

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = BufferPool::new(4 << 20)?;
    for number in 0..16 {
        pool.read((0, number))?;
        assert!(pool.pages.pin(&(0, number))?, "the catalogue stays");
    }
    // Four threads count on the same 32 pages.
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..400).try_for_each(|n| pool.add((1, n % 32), 1).map(drop))))
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    let counted: u64 = (0..32).map(|n| pool.add((1, n), 0)).sum::<Result<u64, _>>()?;
    assert_eq!(counted, 1600, "no update is lost");
    // A scan of more than fits evicts, but not the catalogue.
    for number in 0..20_000 {
        assert_eq!(pool.read((2, number))?.len(), PAGE);
    }
    let before = pool.reads.load(Ordering::Relaxed);
    (0..16).try_for_each(|number| pool.read((0, number)).map(drop))?;
    assert_eq!(pool.reads.load(Ordering::Relaxed), before, "still here");
    let stats = pool.pages.stats();
    println!(
        "{} pages of {PAGE} bytes in {} KiB; {} evicted, 16 pinned, 1600 updates",
        stats.entries,
        stats.bytes_held >> 10,
        stats.evicted
    );
    assert!(stats.evicted > 0 && stats.bytes_held <= 5 << 20);
    Ok(())
}
