//! Reads the first blocks of a file that are not same-filled, without the rest of the file.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::input::{FilesError, Input};
use crate::pages::{Pages, is_same_filled};

/// Read this many bytes at once, if so much is needed.
const PIECE_BYTES: usize = 1 << 20;

/// Reads the first `max_blocks` blocks of a file or pipe that are not same-filled, and little
/// beyond them.
///
/// Holes of a sparse file are skipped without reading them. If the end is reached, the trailing
/// part of a block is dropped and counted. `-` is the standard input.
///
/// # Errors
///
/// If the file is missing, unreadable, empty, shorter than a block, or neither a file nor a pipe.
pub fn read_first_blocks(
    path: &Path,
    block_size: NonZeroUsize,
    max_blocks: usize,
) -> Result<Pages, FilesError> {
    let io = |error| FilesError::Io { path: path.into(), error };
    let mut input = Input::open(path)?;
    let size = block_size.get();
    if let Some(len) = input.len {
        check_len(path, len, size)?;
    }
    let (mut kept, mut piece) = (Vec::new(), Vec::new());
    // The place of the next byte, and the length of a trailing part of a block.
    let (mut at, mut rest) = (0, 0);
    while kept.len() / size < max_blocks {
        if let Some(len) = input.len {
            match skip_hole(&input, at, len, size).map_err(io)? {
                Some(data) => at = data,
                None => {
                    (at, rest) = (len, len as usize % size);
                    break;
                }
            }
        }
        let wanted = (PIECE_BYTES / size).max(1).min(max_blocks - kept.len() / size) * size;
        piece.clear();
        let read = input.by_ref().take(wanted as u64).read_to_end(&mut piece).map_err(io)?;
        at += read as u64;
        for block in piece.chunks_exact(size).filter(|block| !is_same_filled(block)) {
            kept.extend_from_slice(block);
        }
        if read < wanted {
            rest = read % size;
            break;
        }
    }
    if input.len.is_none() {
        check_len(path, at, size)?;
    }
    Ok(Pages::from_sample(block_size, kept, 0, rest as u64))
}

fn check_len(path: &Path, bytes: u64, block_size: usize) -> Result<(), FilesError> {
    match bytes {
        0 => Err(FilesError::Empty { path: path.into() }),
        bytes if bytes < block_size as u64 => {
            Err(FilesError::TooShort { path: path.into(), bytes, block_size })
        }
        _ => Ok(()),
    }
}

/// Seeks to the first block at or after `at` that is not in a hole, and returns its place. Returns
/// `None` if there is none.
fn skip_hole(input: &Input, at: u64, len: u64, block_size: usize) -> io::Result<Option<u64>> {
    if at >= len {
        return Ok(None);
    }
    let data = match seek(&input.file, SeekFrom::Data(at)) {
        Ok(data) => data,
        Err(Errno::NXIO) => return Ok(None),
        // The file system has no holes.
        Err(_) => at,
    };
    let block = data - data % block_size as u64;
    seek(&input.file, SeekFrom::Start(block.max(at)))?;
    Ok(Some(block.max(at)))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::*;

    const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

    fn block(n: u8) -> Vec<u8> {
        (0..4096_u32).map(|i| (i % 251) as u8 ^ n).collect()
    }

    /// A sparse file of 10 TiB is read only where it has data, because reading all of it would take
    /// hours.
    #[test]
    fn sparse_file_skips_its_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len((10 << 40) + 7).unwrap();
        assert!(read_first_blocks(&path, BLOCK, 10).unwrap().is_empty());
        for (n, place) in [(1, 5 << 30), (2, (5 << 30) + 8192), (3, 9 << 40)] {
            file.write_all_at(&block(n), place).unwrap();
        }
        let pages = read_first_blocks(&path, BLOCK, usize::MAX).unwrap();
        assert_eq!(pages.iter().collect::<Vec<_>>(), [block(1), block(2), block(3)]);
        assert_eq!(pages.dropped_bytes(), 7);
        let pages = read_first_blocks(&path, BLOCK, 2).unwrap();
        assert_eq!(pages.iter().collect::<Vec<_>>(), [block(1), block(2)]);
    }

    /// The blocks are those that remain after reading everything and dropping the same-filled ones.
    #[test]
    fn first_blocks_skip_same_filled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mixed: Vec<u8> = (0..1000)
            .flat_map(|n| if n % 3 == 0 { vec![n as u8; 4096] } else { block(n as u8) })
            .collect();
        fs::write(&path, [&mixed[..], &[1, 2, 3]].concat()).unwrap();
        let all = Pages::from_bytes(BLOCK, mixed).without_same_filled();
        for max in [1, 2, 255, 256, 300, 666, 667, usize::MAX] {
            let pages = read_first_blocks(&path, BLOCK, max).unwrap();
            assert_eq!(pages.len(), max.min(all.len()), "{max}");
            assert!(pages.iter().eq(all.iter().take(max)), "{max}");
        }
    }
}
