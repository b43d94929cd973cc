//! Reads `/proc/PID/pagemap` to find the resident pages of a region. If it cannot be read, assumes
//! that all private pages are resident.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::maps::MappedRange;

/// Bytes per entry of `pagemap`. Each page of address space has an entry.
const ENTRY_BYTES: u64 = 8;
/// Bit 63: the page is in memory. The frame number is hidden from ordinary users; this bit is not.
const PRESENT: u64 = 1 << 63;
/// Bytes of `pagemap` per read: eight page tables of 512 entries.
const CHUNK_BYTES: u64 = 32 << 10;

/// The blocks of a process' memory that can be read, as runs of neighbours. They are aligned inside
/// each present stretch.
///
/// ```text
///     pages    │ present │ present │ absent │ present │ present │ present │
///     run      ├───── blocks ──────┤        ├──────────── blocks ─────────┤
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResidentBlocks {
    /// The first address and the number of blocks of each run, ascending.
    runs: Vec<(u64, usize)>,
    blocks: usize,
    block_size: u64,
    /// Whether each block is known to be in memory. If not, some were never touched and read as
    /// zero.
    pub(crate) known: bool,
}

impl ResidentBlocks {
    /// Asks `pagemap` which pages of `regions` are in memory.
    ///
    /// # Errors
    ///
    /// If `pagemap` cannot be read.
    pub(crate) fn from_pagemap(
        pagemap: &File,
        regions: &[MappedRange],
        block_size: u64,
    ) -> io::Result<Self> {
        let page = rustix::param::page_size() as u64;
        let mut present = Self { block_size, known: true, ..Self::default() };
        let mut buffer = vec![0; CHUNK_BYTES as usize];
        for region in regions {
            present.add_region(pagemap, &region.span, page, &mut buffer)?;
        }
        Ok(present)
    }

    /// Assumes that every block of every private region is present, for a process without a
    /// readable `pagemap`.
    ///
    /// Shared regions are left out, because reading an absent page of shared memory allocates it.
    /// Reading an absent private page only maps the kernel's page of zeros.
    pub(crate) fn assumed(regions: &[MappedRange], block_size: u64) -> Self {
        let mut present = Self { block_size, known: false, ..Self::default() };
        for region in regions.iter().filter(|region| !region.shared) {
            present.add(region.span.clone());
        }
        present
    }

    /// Returns the number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Finds the blocks of `indices`, which are ascending ranges. Returns the address and the
    /// number of blocks of each piece of neighbours.
    pub(crate) fn locate(&self, indices: &[Range<usize>]) -> Vec<(u64, usize)> {
        let mut pieces = Vec::new();
        let mut runs = self.runs.iter();
        let mut run = runs.next();
        let mut first = 0;
        for wanted in indices {
            let mut at = wanted.start;
            while let Some(&(address, blocks)) = run.filter(|_| at < wanted.end) {
                let end = wanted.end.min(first + blocks);
                if at < end {
                    pieces.push((address + (at - first) as u64 * self.block_size, end - at));
                    at = end;
                }
                if at < wanted.end {
                    first += blocks;
                    run = runs.next();
                }
            }
        }
        pieces
    }

    /// Walks the `pagemap` entries of one region.
    fn add_region(
        &mut self,
        pagemap: &File,
        span: &Range<u64>,
        page: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let end = span.end / page * ENTRY_BYTES;
        let mut at = span.start / page * ENTRY_BYTES;
        let mut run: Option<u64> = None;
        while at < end {
            let wanted = (end - at).min(CHUNK_BYTES) as usize;
            let read = match pagemap.read_at(&mut buffer[..wanted], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read < ENTRY_BYTES as usize {
                // The process has ended or released the region. We try what we have found so far.
                break;
            }
            for entry in buffer[..read].chunks_exact(ENTRY_BYTES as usize) {
                let bits = u64::from_ne_bytes(std::array::from_fn(|i| entry[i]));
                let address = at / ENTRY_BYTES * page;
                match (bits & PRESENT != 0, run) {
                    (true, None) => run = Some(address),
                    (false, Some(start)) => {
                        self.add(start..address);
                        run = None;
                    }
                    _ => (),
                }
                at += ENTRY_BYTES;
            }
        }
        if let Some(start) = run {
            self.add(start..at / ENTRY_BYTES * page);
        }
        Ok(())
    }

    /// Adds the whole blocks of a stretch of present memory. As in a kernel, blocks start at
    /// multiples of their size.
    fn add(&mut self, stretch: Range<u64>) {
        let Some(start) = stretch.start.checked_next_multiple_of(self.block_size) else { return };
        let blocks = (stretch.end.saturating_sub(start) / self.block_size) as usize;
        if blocks > 0 {
            self.runs.push((start, blocks));
            self.blocks += blocks;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const PAGE: u64 = 4096;

    /// Makes a file like the pagemap of a process whose page `i` is present if `bits[i]` is `#`.
    fn present_of(bits: &str, span: Range<u64>, block_size: u64) -> Vec<(u64, usize)> {
        let mut file = tempfile::tempfile().unwrap();
        for bit in bits.bytes() {
            // The bits below 63 are noise, as they are for a reader that may not see frame numbers.
            let entry = if bit == b'#' { PRESENT | 5 } else { 1 << 62 | 5 };
            file.write_all(&entry.to_ne_bytes()).unwrap();
        }
        let mut present = ResidentBlocks { block_size, known: true, ..ResidentBlocks::default() };
        // A small buffer, so that runs cross from one read to the next.
        present
            .add_region(
                &file,
                &(span.start * PAGE..span.end * PAGE),
                PAGE,
                &mut vec![0; CHUNK_BYTES as usize],
            )
            .unwrap();
        assert_eq!(present.blocks(), present.runs.iter().map(|run| run.1).sum::<usize>());
        present.runs
    }

    #[test]
    fn runs_of_present_pages_are_found() {
        assert_eq!(present_of("..##.#", 0..6, PAGE), [(2 * PAGE, 2), (5 * PAGE, 1)]);
        assert_eq!(present_of("######", 1..5, PAGE), [(PAGE, 4)]);
        assert_eq!(present_of("......", 0..6, PAGE), []);
    }

    /// A run that is longer than one read stays one run.
    #[test]
    fn run_may_span_reads() {
        let pages = (2 * CHUNK_BYTES / ENTRY_BYTES + 10) as usize;
        assert_eq!(present_of(&"#".repeat(pages), 0..pages as u64, PAGE), [(0, pages)]);
    }

    /// A pagemap that ends early gives the runs before its end.
    #[test]
    fn short_pagemap_gives_its_runs() {
        assert_eq!(present_of(".###", 0..100, PAGE), [(PAGE, 3)]);
    }

    /// Blocks larger than a page are aligned, and all of their pages are present.
    #[test]
    fn large_blocks_are_aligned() {
        // With blocks of four pages, only pages 4 to 7 are a whole block. Pages 9 to 12 straddle
        // two.
        assert_eq!(present_of(".##.####.####", 0..13, 4 * PAGE), [(4 * PAGE, 1)]);
        assert_eq!(present_of("############", 0..12, 4 * PAGE), [(0, 3)]);
    }

    #[test]
    fn smaller_blocks_share_a_page() {
        assert_eq!(present_of(".#", 0..2, 1024), [(PAGE, 4)]);
    }

    #[test]
    fn blocks_are_located_by_index() {
        let runs = vec![(100 * PAGE, 3), (200 * PAGE, 1), (300 * PAGE, 10)];
        let present = ResidentBlocks { runs, blocks: 14, block_size: PAGE, known: true };
        assert_eq!(present.locate(&[0..2, 2..3]), [(100 * PAGE, 2), (102 * PAGE, 1)]);
        assert_eq!(
            present.locate(&[2..6, 6..6]),
            [(102 * PAGE, 1), (200 * PAGE, 1), (300 * PAGE, 2)]
        );
        assert_eq!(
            present.locate(&[1..2, 5..6, 13..14]),
            [(101 * PAGE, 1), (301 * PAGE, 1), (309 * PAGE, 1)]
        );
        assert_eq!(present.locate(&[3..4, 4..5]), [(200 * PAGE, 1), (300 * PAGE, 1)]);
        assert_eq!(present.locate(&[]), []);
        let all = present.locate(&[0..7, 7..14]);
        assert_eq!(all.iter().map(|piece| piece.1).sum::<usize>(), 14);
    }

    /// Without a pagemap, private regions are assumed to be present.
    #[test]
    fn private_regions_are_assumed() {
        let regions = [
            MappedRange { span: 0x10000..0x12000, shared: false },
            MappedRange { span: 0x20000..0x22000, shared: true },
        ];
        let present = ResidentBlocks::assumed(&regions, PAGE);
        assert_eq!((present.runs, present.known), (vec![(0x10000, 2)], false));
    }
}
