//! A search over log segments in memory: `cargo run -p zswap-cache --example log_search`.
//!
//! Segments are long values, split into blocks. The search walks over the cache itself, so there is
//! no second index of what is in it; a hit is read again by its offset, which decompresses one
//! block instead of the segment; and old segments are removed by what is in them.

use zswap_cache::{Cache, CacheError};

/// A segment of a log: its host, and its number on that host.
type Segment = (u32, u32);

struct Logs(Cache<Segment>);

impl Logs {
    /// Finds all lines that contain `pattern`: segment and offset of each.
    fn search(&self, pattern: &str) -> Result<Vec<(Segment, usize)>, CacheError> {
        let mut hits = Vec::new();
        self.0.for_each(|segment, text| {
            let mut offset = 0;
            for line in text.split_inclusive(|&byte| byte == b'\n') {
                if line.windows(pattern.len()).any(|part| part == pattern.as_bytes()) {
                    hits.push((*segment, offset));
                }
                offset += line.len();
            }
        })?;
        hits.sort_unstable();
        Ok(hits)
    }

    /// Reads one line.
    fn line(&self, segment: Segment, offset: usize) -> Result<Option<String>, CacheError> {
        let mut buffer = [0; 128];
        let read = self.0.get_range(&segment, offset, &mut buffer)?;
        Ok(read.map(|len| {
            let line = buffer[..len].split(|&byte| byte == b'\n').next().unwrap_or_default();
            String::from_utf8_lossy(line).into_owned()
        }))
    }
}

/// Returns a segment of 2000 lines, some of which are errors.
fn segment((host, number): Segment) -> String {
    let line = |n: u32| {
        let level = if (n + number) % 500 == 7 { "ERROR disk full" } else { "INFO request served" };
        format!("{:06} host-{host} {level} in {} ms\n", number * 2000 + n, n % 90)
    };
    (0..2000).map(line).collect()
}

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let logs = Logs(Cache::builder().limit_bytes(64 << 20).build()?);
    for host in 0..4 {
        for number in 0..10 {
            logs.0.insert((host, number), segment((host, number)))?;
        }
    }
    let hits = logs.search("ERROR")?;
    assert_eq!(hits.len(), 4 * 10 * 4);
    let (first, offset) = hits[0];
    let line = logs.line(first, offset)?.expect("it is still there");
    assert_eq!(line, "000007 host-0 ERROR disk full in 7 ms");
    let stats = logs.0.stats();
    // Segments whose first line is older than line 8000 are removed.
    let old = logs.0.retain(|_, text| text.starts_with(b"01") || text.starts_with(b"008"));
    assert_eq!((old, logs.search("ERROR")?.len()), (4 * 4, 4 * 6 * 4));
    println!(
        "{} KiB of logs in {} KiB: {} errors, the first is\n  {line}",
        stats.value_bytes >> 10,
        stats.bytes_held >> 10,
        hits.len()
    );
    Ok(())
}
