//! Memory of a virtual machine whose cold pages are compressed:
//! `cargo run -p zswap --example vm_pages`.
//!
//! The guest sees all of its pages. The host keeps the hot ones as they are. A sweep moves pages
//! that were not touched since the last sweep into the store, and a touch brings one back, as a
//! page fault would. Page numbers are the keys, so [`SequentialKeys`] makes look-ups of neighbours
//! cheap. There is no limit, because a page of a guest must never be lost.

use zswap::{SequentialKeys, Store};

const PAGE: usize = 4096;
const PAGES: u64 = 8192;

struct GuestMemory {
    /// Pages in use. A page that is not here is in the store, or was never written.
    hot: Vec<Option<HotPage>>,
    cold: Store<u64, SequentialKeys>,
    faults: u64,
}

struct HotPage {
    bytes: Box<[u8; PAGE]>,
    touched: bool,
}

impl GuestMemory {
    fn new() -> Result<GuestMemory, zswap::BuildError> {
        let cold = Store::builder().hasher(SequentialKeys::default()).build()?;
        Ok(GuestMemory { hot: (0..PAGES).map(|_| None).collect(), cold, faults: 0 })
    }

    /// Returns the page, from the store if it is cold. A page that was never written is zero.
    fn touch(&mut self, number: u64) -> Result<&mut [u8; PAGE], zswap::Error> {
        let place = &mut self.hot[number as usize];
        if place.is_none() {
            let mut bytes = Box::new([0; PAGE]);
            // `take`, because the page is about to change: a copy in the store would be old.
            self.faults += u64::from(self.cold.take(&number, &mut bytes[..])?.is_some());
            *place = Some(HotPage { bytes, touched: true });
        }
        let page = place.as_mut().expect("it was brought in");
        page.touched = true;
        Ok(&mut page.bytes)
    }

    /// Moves pages that were not touched since the last sweep into the store.
    fn sweep(&mut self) -> Result<(), zswap::Error> {
        for (number, place) in (0..).zip(&mut self.hot) {
            match place {
                Some(page) if !page.touched => {
                    // The page is dropped only once the store has it.
                    self.cold.store(number, &page.bytes[..])?;
                    *place = None;
                }
                Some(page) => page.touched = false,
                None => {}
            }
        }
        Ok(())
    }

    fn hot_pages(&self) -> usize {
        self.hot.iter().flatten().count()
    }
}

/// Writes the content of a page: zeros, as in much of a guest's memory, or records.
fn write(page: &mut [u8; PAGE], number: u64, version: u64) {
    page.fill(0);
    if number.is_multiple_of(4) {
        return;
    }
    for (i, record) in (0..).zip(page.chunks_exact_mut(32)) {
        record[..8].copy_from_slice(&(0x7f00_0000_0000 + number * 4096 + i * 32).to_le_bytes());
        record[8..16].copy_from_slice(&(number ^ i).to_le_bytes());
        record[16..24].copy_from_slice(&version.to_le_bytes());
    }
}

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut memory = GuestMemory::new()?;
    let mut versions = vec![0; PAGES as usize];
    for number in 0..PAGES {
        write(memory.touch(number)?, number, 0);
    }
    // The guest works on a window of 1/16 of its pages, which moves.
    for round in 0..16 {
        memory.sweep()?;
        let first = round * PAGES / 32;
        for number in first..first + PAGES / 16 {
            versions[number as usize] += 1;
            write(memory.touch(number)?, number, versions[number as usize]);
        }
    }
    memory.sweep()?;
    let (hot, stats) = (memory.hot_pages(), memory.cold.stats());
    println!("guest   {PAGES} pages, {} bytes", PAGES as usize * PAGE);
    println!("hot     {hot} pages, {} bytes", hot * PAGE);
    println!("cold    {} pages in {} bytes", stats.entries, stats.bytes_held());
    println!("        {} of them are one word over and over", stats.same_filled);
    println!("faults  {}", memory.faults);
    assert!(hot * PAGE + stats.bytes_held() < PAGES as usize * PAGE / 2);
    assert!(stats.same_filled >= stats.entries / 5 && memory.faults > 0);
    assert_eq!(hot + stats.entries, PAGES as usize);
    let mut expected = [0; PAGE];
    for number in 0..PAGES {
        write(&mut expected, number, versions[number as usize]);
        assert!(*memory.touch(number)? == expected, "page {number} is as the guest left it");
    }
    Ok(())
}
