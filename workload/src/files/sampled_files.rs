//! Reads blocks from files and pipes.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::input::{FilesError, Input, input_path};
use crate::pages::Pages;
use crate::random::sample_runs;

/// Reads `paths`, one after the other, into blocks of `block_size`. No block spans two files.
///
/// The trailing part of a block is dropped and counted, for each file ([`Pages::dropped_bytes`]).
/// If the files hold more than `max_bytes`, [`sample_runs`] chooses among all blocks, and of a
/// regular file only the chosen ones are read. A pipe is read to its end or to the limit. `-` is
/// the standard input.
///
/// # Errors
///
/// If no path is given, if the limit is below one block, or if a path is missing, unreadable,
/// empty, shorter than a block, or neither a file nor a pipe.
pub fn read_files(
    paths: &[impl AsRef<Path>],
    block_size: NonZeroUsize,
    max_bytes: Option<u64>,
) -> Result<Pages, FilesError> {
    if paths.is_empty() {
        return Err(FilesError::NoFile);
    }
    if let Some(max_bytes) = max_bytes.filter(|&max| max < block_size.get() as u64) {
        return Err(FilesError::LimitTooSmall { max_bytes, block_size: block_size.get() });
    }
    let inputs = paths
        .iter()
        .map(|path| InputFile::open(path.as_ref(), block_size, max_bytes))
        .collect::<Result<Vec<_>, _>>()?;
    let total: usize = inputs.iter().map(|input| input.blocks).sum();
    let dropped = inputs.iter().map(|input| input.dropped_bytes).sum();
    let limit = max_bytes
        .map_or(total, |max| usize::try_from(max / block_size.get() as u64).unwrap_or(total));

    let mut bytes = Vec::with_capacity(limit.min(total) * block_size.get());
    let runs = sample_runs(total, limit);
    let mut first = 0;
    for input in inputs {
        let end = first + input.blocks;
        let parts = runs
            .iter()
            .map(|run| run.start.max(first)..run.end.min(end))
            .filter(|part| !part.is_empty());
        input.append(
            parts.map(|part| part.start - first..part.end - first),
            block_size,
            &mut bytes,
        )?;
        first = end;
    }
    Ok(Pages::from_sample(block_size, bytes, total as u64, dropped))
}

/// A file whose length is known and which is not read yet, or the contents of a pipe, which can be
/// read only once.
struct InputFile<'a> {
    path: &'a Path,
    blocks: usize,
    dropped_bytes: u64,
    /// The bytes of a pipe. A file is opened again when its blocks are wanted, because descriptors
    /// are few.
    piped: Option<Vec<u8>>,
}

impl<'a> InputFile<'a> {
    fn open(
        path: &'a Path,
        block_size: NonZeroUsize,
        max_bytes: Option<u64>,
    ) -> Result<Self, FilesError> {
        let io = |error| FilesError::Io { path: path.into(), error };
        let input = Input::open(path)?;
        let (bytes, piped) = match input.len {
            Some(len) => (len, None),
            None => {
                let mut bytes = Vec::new();
                input.take(max_bytes.unwrap_or(u64::MAX)).read_to_end(&mut bytes).map_err(io)?;
                (bytes.len() as u64, Some(bytes))
            }
        };
        let size = block_size.get() as u64;
        if bytes == 0 {
            return Err(FilesError::Empty { path: path.into() });
        }
        if bytes < size {
            return Err(FilesError::TooShort {
                path: path.into(),
                bytes,
                block_size: block_size.get(),
            });
        }
        let blocks =
            usize::try_from(bytes / size).map_err(|_| io(io::ErrorKind::FileTooLarge.into()))?;
        Ok(Self { path, blocks, dropped_bytes: bytes % size, piped })
    }

    /// Appends the blocks of `parts` (ranges of this input's block indices) to `bytes`.
    fn append(
        &self,
        parts: impl Iterator<Item = Range<usize>>,
        block_size: NonZeroUsize,
        bytes: &mut Vec<u8>,
    ) -> Result<(), FilesError> {
        let io = |error| FilesError::Io { path: self.path.into(), error };
        let mut file = None;
        for part in parts {
            let (at, end) = (part.start * block_size.get(), part.end * block_size.get());
            if let Some(piped) = &self.piped {
                bytes.extend_from_slice(&piped[at..end]);
                continue;
            }
            let file = match &file {
                Some(file) => file,
                None => file.insert(File::open(input_path(self.path)).map_err(io)?),
            };
            let filled = bytes.len();
            bytes.resize(filled + end - at, 0);
            // If the file shrank since we measured it, this is the error of a read past its end.
            file.read_exact_at(&mut bytes[filled..], at as u64).map_err(io)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    const BLOCK: NonZeroUsize = NonZeroUsize::new(64).unwrap();

    /// Makes a block that encodes its file and its place.
    fn block(file: u8, i: usize) -> Vec<u8> {
        let mut block = vec![file; 64];
        block[..8].copy_from_slice(&(i as u64).to_le_bytes());
        block
    }

    fn write(folder: &Path, name: &str, file: u8, blocks: usize, tail: usize) -> PathBuf {
        let mut bytes: Vec<u8> = (0..blocks).flat_map(|i| block(file, i)).collect();
        bytes.resize(bytes.len() + tail, 0xEE);
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn message(result: Result<Pages, FilesError>) -> String {
        let text = result.unwrap_err().to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    }

    /// Several files are read in order, and no block spans two of them.
    #[test]
    fn files_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [write(folder.path(), "a", 1, 3, 10), write(folder.path(), "b", 2, 2, 0)];
        let pages = read_files(&paths, BLOCK, None).unwrap();
        let expected: Vec<_> =
            (0..3).map(|i| block(1, i)).chain((0..2).map(|i| block(2, i))).collect();
        assert_eq!(pages.iter().collect::<Vec<_>>(), expected);
        assert_eq!((pages.dropped_bytes(), pages.available_blocks()), (10, 5));
    }

    /// A limit samples runs over all files, in order.
    #[test]
    fn limit_samples_all_files() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> =
            (0..5).map(|f| write(folder.path(), &f.to_string(), f, 500, 0)).collect();
        let pages = read_files(&paths, BLOCK, Some(640 * 64)).unwrap();
        assert_eq!((pages.len(), pages.available_blocks()), (640, 2500));
        let places: Vec<usize> = pages
            .iter()
            .map(|b| usize::from(b[20]) * 500 + usize::from(b[0]) + (usize::from(b[1]) << 8))
            .collect();
        let expected: Vec<usize> = sample_runs(2500, 640).into_iter().flatten().collect();
        assert_eq!(places, expected);
        for file in 0..5 {
            assert!(places.iter().any(|p| p / 500 == file), "file {file} is in the sample");
        }
    }

    /// A limit that is not reached changes nothing.
    #[test]
    fn unreached_limit_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [write(folder.path(), "a", 1, 40, 3)];
        let all = read_files(&paths, BLOCK, None).unwrap();
        assert_eq!(read_files(&paths, BLOCK, Some(1 << 30)).unwrap(), all);
    }

    /// Bad input is reported in one line that names the file.
    #[test]
    fn bad_input_is_named_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path| message(read_files(&[path], BLOCK, None));
        let missing = folder.path().join("line\nfeed");
        assert!(read(&missing).contains("line\\nfeed\": No such file"));
        assert!(read(folder.path()).ends_with("(a folder) is neither a file nor a pipe"));
        assert!(read(Path::new("/dev/zero")).ends_with("(a device) is neither a file nor a pipe"));
        let empty = write(folder.path(), "empty", 0, 0, 0);
        assert!(read(&empty).ends_with("empty\" is empty"));
        let short = write(folder.path(), "short", 0, 0, 63);
        assert!(read(&short).ends_with("holds 63 bytes, less than one block of 64"));
        assert_eq!(message(read_files(&[] as &[PathBuf], BLOCK, None)), "no file was named");
        let good = write(folder.path(), "good", 0, 1, 0);
        assert!(
            message(read_files(&[&good], BLOCK, Some(63))).starts_with("a limit of 63 B is less")
        );
        // One bad file among good ones is an error, not a smaller result.
        assert!(read_files(&[good, missing], BLOCK, None).is_err());
    }

    #[test]
    fn a_pipe_is_read_like_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let writer = std::thread::spawn({
            let path = path.clone();
            move || {
                fs::write(
                    path,
                    (0..100).flat_map(|i| block(9, i)).chain([1, 2]).collect::<Vec<u8>>(),
                )
            }
        });
        let pages = read_files(&[path], BLOCK, None).unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!((pages.len(), pages.dropped_bytes()), (100, 2));
        assert_eq!(pages.block(99), block(9, 99));
    }
}
