//! Trains a model: `cargo run --release -p zpool-pagelz --example train -- OUT FILE...`
//!
//! It made the generic model, `src/generic.model`, from files of 4 KiB pages of the programs that
//! FORMAT.md lists. It takes the same number of pages from each file, in runs spread over it, so
//! that all files count equally.

use std::collections::HashSet;
use std::error::Error;
use std::fs;

use zpool_pagelz::train;

const PAGE: usize = 4096;
/// Neighbouring pages that are taken together from a file.
const RUN: usize = 16;
const PAGES_PER_FILE: usize = 2048;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let output = arguments.next().ok_or("usage: train OUT FILE...")?;
    let mut pages = Vec::new();
    for file in arguments {
        let bytes = fs::read(file)?;
        let mut seen = HashSet::new();
        let distinct: Vec<&[u8]> = bytes
            .chunks_exact(PAGE)
            .filter(|page| page[8..] != page[..PAGE - 8] && seen.insert(*page))
            .collect();
        let runs: Vec<&[&[u8]]> = distinct.chunks(RUN).collect();
        let step = (runs.len() / (PAGES_PER_FILE / RUN)).max(1);
        let taken = runs.iter().step_by(step).flat_map(|run| run.iter()).take(PAGES_PER_FILE);
        pages.extend(taken.map(|page| page.to_vec()));
    }
    let pages: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
    let model = train(&pages)?;
    println!("{} pages, a model of {} bytes", pages.len(), model.len());
    fs::write(output, model)?;
    Ok(())
}
