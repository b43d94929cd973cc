//! A buffer pool with dirty pages, over a file: `cargo run -p zswap --example dirty_pages`.
//!
//! A page that was changed is dirty: memory has it, and the file an older one. At its limit the
//! store shows cold pages to a listener, which writes dirty ones to the file before they are freed.
//! If the write fails, the page stays. A miss reads the file.
//!
//! The flag is in the key, so it changes together with the page. In a list beside the store, one
//! thread could clear the flag of a page that another one has just changed.

use std::error::Error;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use zswap::{AtLimit, EvictionCandidate, EvictionDecision, Store};

const PAGE: usize = 4096;
const PAGES: u64 = 2048;
const LIMIT: usize = 2 << 20;

type Page = [u8; PAGE];

/// The number of a page, by which alone keys are equal, and whether the file has an older page.
#[derive(Debug, Clone, Copy, Eq)]
struct PageKey {
    number: u64,
    dirty: bool,
}

impl PartialEq for PageKey {
    fn eq(&self, other: &PageKey) -> bool {
        self.number == other.number
    }
}

impl Hash for PageKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

/// A file of pages. Now and then a write fails, as on a disk that is full for a moment.
struct PageFile {
    file: Mutex<File>,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl PageFile {
    fn at(&self, number: u64) -> io::Result<MutexGuard<'_, File>> {
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        file.seek(SeekFrom::Start(number * PAGE as u64))?;
        Ok(file)
    }

    fn read(&self, number: u64, page: &mut Page) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.at(number)?.read_exact(page)
    }

    fn write(&self, number: u64, page: &Page) -> io::Result<()> {
        if self.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(20) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.at(number)?.write_all(page)
    }

    /// Saves a page that is about to be evicted, if the file has an older one.
    fn write_back(
        &self,
        key: &PageKey,
        candidate: &EvictionCandidate<'_>,
    ) -> Result<(), Box<dyn Error>> {
        if key.dirty {
            let mut page = [0; PAGE];
            candidate.decode(&mut page)?;
            self.write(key.number, &page)?;
        }
        Ok(())
    }
}

struct BufferPool {
    pages: Store<PageKey>,
    file: Arc<PageFile>,
    /// One for many pages. Held while a page is read from the file, or changed.
    latches: [Mutex<()>; 64],
}

impl BufferPool {
    fn new(file: File, limit_bytes: usize) -> Result<BufferPool, zswap::BuildError> {
        let (reads, writes) = (AtomicU64::new(0), AtomicU64::new(0));
        let file = Arc::new(PageFile { file: Mutex::new(file), reads, writes });
        let below = file.clone();
        let pages = Store::builder()
            .block_size(PAGE)
            .limit_bytes(limit_bytes)
            .at_limit(AtLimit::Evict)
            .on_evict_with(move |key: &PageKey, page| match below.write_back(key, page) {
                Ok(()) => EvictionDecision::Evict,
                Err(_) => EvictionDecision::Keep,
            })
            .build()?;
        Ok(BufferPool { pages, file, latches: [const { Mutex::new(()) }; 64] })
    }

    /// Reads a page.
    fn read(&self, number: u64, page: &mut Page) -> Result<(), Box<dyn Error>> {
        let _latch = self.latch(number);
        if self.fetch(number, page)? {
            let clean = PageKey { number, dirty: false };
            self.pages.store_if(clean, page, |_, _| true)?;
        }
        Ok(())
    }

    /// Changes a page in memory.
    fn update(&self, number: u64, change: impl Fn(&mut Page)) -> Result<(), Box<dyn Error>> {
        let _latch = self.latch(number);
        let mut page = [0; PAGE];
        self.fetch(number, &mut page)?;
        change(&mut page);
        // Unlike `store`, this also replaces the key, and an error leaves the older page.
        let dirty = PageKey { number, dirty: true };
        self.pages.store_if(dirty, page, |_, _| true)?;
        Ok(())
    }

    /// Fetches a page from memory, or from the file. Returns whether it was in the file.
    fn fetch(&self, number: u64, page: &mut Page) -> Result<bool, Box<dyn Error>> {
        let is_missing = self.pages.load(&PageKey { number, dirty: false }, page)?.is_none();
        if is_missing {
            self.file.read(number, page)?;
        }
        Ok(is_missing)
    }

    fn latch(&self, number: u64) -> MutexGuard<'_, ()> {
        self.latches[number as usize % 64].lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Returns a page with its number and a count in it. It shrinks to about half.
fn page(number: u64, count: u64) -> Page {
    let mut page = [0; PAGE];
    for (i, line) in (1..).zip(page.chunks_exact_mut(64)) {
        let sum = (number << 32 | i).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let text = format!("page {number} line {i} sum {sum:x}");
        line[..text.len()].copy_from_slice(text.as_bytes());
    }
    page[PAGE - 8..].copy_from_slice(&count.to_le_bytes());
    page
}

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn Error>> {
    let mut file = tempfile::tempfile()?;
    (0..PAGES).try_for_each(|number| file.write_all(&page(number, 0)))?;
    // 8 MiB of pages behind a pool of 2 MiB.
    let pool = BufferPool::new(file, LIMIT)?;
    let counts: Vec<AtomicU64> = (0..PAGES).map(|_| AtomicU64::new(0)).collect();
    const UPDATES: u64 = 5_000;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (pool, counts) = (&pool, &counts);
            scope.spawn(move || {
                for n in 0..UPDATES / 4 {
                    let number = (n * 4 + thread).wrapping_mul(0x9E37_79B9_7F4A_7C15) % PAGES;
                    pool.update(number, |page| {
                        let count = counts[number as usize].fetch_add(1, Ordering::Relaxed) + 1;
                        page[PAGE - 8..].copy_from_slice(&count.to_le_bytes());
                    })
                    .expect("there is room, or a page that can be written");
                }
            });
        }
    });
    let stats = pool.pages.stats();
    println!("updates           {UPDATES} of {PAGES} pages by 4 threads");
    println!("read              {} pages from the file", pool.file.reads.load(Ordering::Relaxed));
    println!("evicted           {} pages, all of them dirty", stats.evicted);
    println!("kept              {}, because the write failed", stats.evictions_kept);
    println!("in memory         {} pages in {} bytes", stats.entries, stats.bytes_held());
    assert!(stats.evicted > 1000 && stats.evictions_kept > 10);
    assert!(stats.bytes_held() < LIMIT + (256 << 10));
    let mut found = [0; PAGE];
    for (number, count) in (0..).zip(counts) {
        pool.read(number, &mut found)?;
        assert!(found == page(number, count.into_inner()), "page {number} has every update");
    }
    println!("every page is as it was last changed");
    Ok(())
}
