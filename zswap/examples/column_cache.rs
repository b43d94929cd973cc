//! A cache of column chunks for a query engine: `cargo run -p zswap --example column_cache`.
//!
//! A table consists of columns, and a column of chunks of 16384 numbers. A query reads the chunks
//! of a few columns. They stay in the cache, compressed. [`Store::load_with`] hands a chunk to the
//! query in a buffer of the thread, so no copy of it is kept. Several threads run queries at the
//! same time, without a lock of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use zswap::{AtLimit, Store};

const CHUNK_ROWS: usize = 16 << 10;
const CHUNK_BYTES: usize = CHUNK_ROWS * 4;
const COLUMNS: u16 = 12;
const CHUNKS: u32 = 32;
const LIMIT: usize = 3 << 20;

/// The place of a chunk in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ChunkId {
    column: u16,
    chunk: u32,
}

struct ColumnCache {
    chunks: Store<ChunkId>,
    scanned: AtomicU64,
    read: AtomicU64,
}

impl ColumnCache {
    fn new() -> Result<ColumnCache, zswap::BuildError> {
        let chunks = Store::builder()
            .block_size(CHUNK_BYTES)
            .limit_bytes(LIMIT)
            .at_limit(AtLimit::Evict)
            .build()?;
        Ok(ColumnCache { chunks, scanned: AtomicU64::new(0), read: AtomicU64::new(0) })
    }

    /// Sums the numbers of a chunk.
    fn sum(&self, id: ChunkId) -> Result<u64, zswap::Error> {
        self.scanned.fetch_add(1, Ordering::Relaxed);
        if let Some(sum) = self.chunks.load_with(&id, sum_of)? {
            return Ok(sum);
        }
        self.read.fetch_add(1, Ordering::Relaxed);
        let bytes = read_from_disk(id);
        self.chunks.store(id, &bytes)?;
        Ok(sum_of(&bytes))
    }

    /// Sums a column.
    fn query(&self, column: u16) -> Result<u64, zswap::Error> {
        (0..CHUNKS).map(|chunk| self.sum(ChunkId { column, chunk })).sum()
    }
}

fn sum_of(bytes: &[u8]) -> u64 {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|number| u64::from(u32::from_le_bytes(*number))).sum()
}

/// Stands for a read of a file. Columns differ in how well they shrink: sorted ids, states of few
/// kinds, prices.
fn read_from_disk(id: ChunkId) -> Vec<u8> {
    let first = id.chunk * CHUNK_ROWS as u32;
    let number = |row: u32| match id.column % 3 {
        0 => row / 3 + u32::from(id.column),
        1 => row.wrapping_mul(0x9E37_79B1) >> 29,
        _ => (row.wrapping_mul(0x85EB_CA6B) >> 20) * 5,
    };
    (first..first + CHUNK_ROWS as u32).flat_map(|row| number(row).to_le_bytes()).collect()
}

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = ColumnCache::new()?;
    let sum_of_column = |column| -> u64 {
        (0..CHUNKS).map(|chunk| sum_of(&read_from_disk(ChunkId { column, chunk }))).sum()
    };
    let expected: Vec<u64> = (0..COLUMNS).map(sum_of_column).collect();
    thread::scope(|scope| {
        let threads = [0, 1].map(|thread| {
            let (cache, expected) = (&cache, &expected);
            scope.spawn(move || -> Result<(), zswap::Error> {
                // Most queries are about three columns, and every fifth is about another one.
                for n in 0..30u16 {
                    let column = if n % 5 == 4 { (n + thread) % COLUMNS } else { n % 3 };
                    assert_eq!(cache.query(column)?, expected[usize::from(column)]);
                }
                Ok(())
            })
        });
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    let (scanned, read) = (cache.scanned.into_inner(), cache.read.into_inner());
    let (stats, table) = (cache.chunks.stats(), usize::from(COLUMNS) * CHUNKS as usize);
    println!("table    {table} chunks, {} bytes", table * CHUNK_BYTES);
    println!("scanned  {scanned} chunks, of which {read} were read from disk");
    println!("cache    {} chunks, {} evicted", stats.entries, stats.evicted);
    println!("bytes    {} in {}", stats.stored_bytes, stats.bytes_held());
    assert!(stats.evicted > 0 && read < scanned / 2);
    assert!(stats.stored_bytes > stats.bytes_held(), "it holds more than it takes");
    assert!(stats.bytes_held() < LIMIT + (512 << 10));
    Ok(())
}
