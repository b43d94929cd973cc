//! Fills a process with real data: files, read into maps and vectors.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

use super::resident::{Growth, ResidentError};

/// Read and index this many bytes of a file before asking the OS again how much the process has
/// grown.
const PIECE_BYTES: u64 = 256 << 10;

/// Take at most this many bytes of one file. A build has single files that would fill the whole
/// archive.
const FILE_BYTES: u64 = 8 << 20;

/// The shortest line of a binary file, in printable characters.
const SHORTEST_LINE: usize = 6;

/// The text of files, line by line, with an index of its words. Search engines, compilers and
/// editors hold such data.
///
/// ```text
///     files ──► lines      Vec<String>
///                 └──────► words      HashMap<String, Vec<u32>>      every line a word is in
///                 └──────► lengths    BTreeMap<u32, u32>             lines by length
/// ```
///
/// It stands in for the memory of a live process if no other process may be read. Of binary files
/// it takes the runs of printable characters, as the tool `strings` does.
#[derive(Default)]
pub struct Archive {
    lines: Vec<String>,
    words: HashMap<String, Vec<u32>>,
    lengths: BTreeMap<u32, u32>,
    files: usize,
}

impl Archive {
    /// Reads the files at and below `roots`, sorted in each folder, until this process has grown by
    /// `max_bytes`. Links and unreadable files are left out.
    ///
    /// # Errors
    ///
    /// If the OS does not report how much the process has grown.
    pub fn load(roots: &[impl AsRef<Path>], max_bytes: u64) -> Result<Self, ResidentError> {
        let mut archive = Self::default();
        let limit = GrowthLimit {
            growth: Growth::start()?,
            max: i64::try_from(max_bytes).unwrap_or(i64::MAX),
        };
        for root in roots {
            if archive.visit(root.as_ref(), &limit)?.is_break() {
                break;
            }
        }
        Ok(archive)
    }

    /// Returns the number of files that had lines.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Returns the number of lines.
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    fn visit(
        &mut self,
        path: &Path,
        limit: &GrowthLimit,
    ) -> Result<ControlFlow<()>, ResidentError> {
        let Ok(kind) = fs::symlink_metadata(path).map(|data| data.file_type()) else {
            return Ok(ControlFlow::Continue(()));
        };
        if kind.is_file() {
            return self.read(path, limit);
        }
        let entries = kind.is_dir().then(|| fs::read_dir(path).ok()).flatten();
        let mut below: Vec<_> =
            entries.into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect();
        below.sort_unstable();
        for path in below {
            if self.visit(&path, limit)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn read(&mut self, path: &Path, limit: &GrowthLimit) -> Result<ControlFlow<()>, ResidentError> {
        let Ok(file) = File::open(path) else { return Ok(ControlFlow::Continue(())) };
        let mut file = file.take(FILE_BYTES);
        let before = self.lines.len();
        let mut piece = Vec::new();
        let full = loop {
            piece.clear();
            match file.by_ref().take(PIECE_BYTES).read_to_end(&mut piece) {
                Ok(read) if read > 0 => self.index(&piece),
                _ => break false,
            }
            if limit.reached()? {
                break true;
            }
        };
        self.files += usize::from(self.lines.len() > before);
        Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn index(&mut self, bytes: &[u8]) {
        let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
        for line in bytes.split(|byte| !printable(byte)).filter(|line| line.len() >= SHORTEST_LINE)
        {
            let line = String::from_utf8_lossy(line);
            let number = self.lines.len() as u32;
            for word in line.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2) {
                match self.words.get_mut(word) {
                    Some(places) => places.push(number),
                    None => drop(self.words.insert(word.to_owned(), vec![number])),
                }
            }
            *self.lengths.entry(line.len() as u32).or_default() += 1;
            self.lines.push(line.into_owned());
        }
    }
}

/// The limit to an archive's growth.
struct GrowthLimit {
    growth: Growth,
    max: i64,
}

impl GrowthLimit {
    fn reached(&self) -> Result<bool, ResidentError> {
        Ok(self.growth.bytes()? >= self.max)
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("files", &self.files)
            .field("lines", &self.lines.len())
            .field("words", &self.words.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and binary files are indexed in order.
    #[test]
    fn files_are_indexed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/text"), "the last line\nshort\n").unwrap();
        fs::write(folder.path().join("a"), b"\x00\x01first line\x00\xff\x80second line\x00tiny")
            .unwrap();
        fs::write(folder.path().join("c"), [0_u8; 100]).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
        let archive = Archive::load(&[folder.path()], u64::MAX).unwrap();
        assert_eq!(archive.lines, ["first line", "second line", "the last line"]);
        assert_eq!(archive.words["line"], [0, 1, 2]);
        assert_eq!(archive.lengths[&10], 1);
        assert_eq!((archive.files(), archive.lines()), (2, 3));
    }

    #[test]
    fn what_is_missing_is_left_out() {
        let archive = Archive::load(&["/nowhere/at/all"], u64::MAX).unwrap();
        assert_eq!((archive.files(), archive.lines()), (0, 0));
    }

    #[test]
    fn a_limit_ends_the_reading() {
        let folder = tempfile::tempdir().unwrap();
        let text: String =
            (0..400_000).map(|i| format!("line number {i} of a long file\n")).collect();
        fs::write(folder.path().join("a"), &text).unwrap();
        fs::write(folder.path().join("b"), &text).unwrap();
        let archive = Archive::load(&[folder.path()], 1).unwrap();
        assert!(archive.lines() > 0 && archive.lines() < 400_000, "{archive:?}");
        assert_eq!(archive.files(), 1);
    }
}
