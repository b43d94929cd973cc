//! Does a dictionary pay for the pages of a file? Trains one on half of them and judges it on the other half.
//!
//! `cargo run --release -p zpool-zstd --example judge -- FILE [LEVEL [DICTIONARY_BYTES]]`

use std::error::Error;

use zpool_zstd::{TrainError, ZstdCompressor, train_and_judge};

const PAGE: usize = 4096;
const DICTIONARY_BYTES: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: judge FILE [LEVEL [DICTIONARY_BYTES]]")?;
    let level = arguments.next().map_or(Ok(ZstdCompressor::DEFAULT_LEVEL), |text| text.parse())?;
    let max_len = arguments.next().map_or(Ok(DICTIONARY_BYTES), |text| text.parse())?;
    let bytes = std::fs::read(&file)?;
    let pages: Vec<&[u8]> = bytes.chunks_exact(PAGE).collect();
    match train_and_judge(&pages, level, max_len) {
        Ok(trained) => println!("{file}: pays {}", trained.verdict),
        Err(TrainError::Refused(verdict)) => println!("{file}: refused {verdict}"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
