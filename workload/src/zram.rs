//! The kernel's own compressed memory, as the yardstick for storing and loading: a zram device of its own, written and read past the page cache.
//!
//! ```text
//!   hot_add ─► number ─► comp_algorithm, disksize ─► /dev/zramN, O_DIRECT ─► reset, hot_remove
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::Skipped;

const CONTROL: &str = "/sys/class/zram-control";

/// Alignment in bytes that unbuffered requests need: zram's block, which is a page.
const ALIGNMENT: usize = 4096;

/// A zram device, added for a measurement and removed when this is dropped. Needs root.
#[derive(Debug)]
pub struct KernelZram {
    device: Option<File>,
    added: Added,
    bounce: Bounce,
}

impl KernelZram {
    /// Adds a device of `bytes`, rounded up to whole pages, that compresses with `algorithm`. Requests have at most `request_bytes`.
    ///
    /// # Errors
    ///
    /// [`Skipped`] where there is no zram, no device may be added, or it does not know the algorithm.
    pub fn add(algorithm: &str, bytes: usize, request_bytes: usize) -> Result<Self, Skipped> {
        let added = Added::new(Path::new(CONTROL)).map_err(skip(CONTROL))?;
        let device = added.set_up(algorithm, bytes).map_err(skip(&format!("zram{}", added.number)))?;
        Ok(KernelZram { device: Some(device), added, bounce: Bounce::new(request_bytes) })
    }

    /// The device's number.
    pub fn number(&self) -> u32 {
        self.added.number
    }

    /// The buffer of a request's length that [`write_at`](Self::write_at) writes and [`read_at`](Self::read_at) fills: aligned as they need it.
    pub fn buffer(&mut self) -> &mut [u8] {
        self.bounce.slice()
    }

    /// Writes the first `len` bytes of the buffer at `offset`, in one request. All are multiples of a page.
    ///
    /// # Errors
    ///
    /// The kernel's; `UnexpectedEof` or `WriteZero` when it did less.
    ///
    /// # Panics
    ///
    /// When the buffer is shorter than `len`.
    pub fn write_at(&mut self, len: usize, offset: u64) -> io::Result<()> {
        let done = self.file().write_at(&self.bounce.slice_ref()[..len], offset)?;
        if done == len { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Reads the first `len` bytes of the buffer from `offset`, in one request.
    ///
    /// # Errors
    ///
    /// As for [`write_at`](Self::write_at).
    ///
    /// # Panics
    ///
    /// When the buffer is shorter than `len`.
    pub fn read_at(&mut self, len: usize, offset: u64) -> io::Result<()> {
        let device = self.device.as_ref().expect("there until this is dropped");
        let done = device.read_at(&mut self.bounce.slice()[..len], offset)?;
        if done == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Bytes that the device's data has compressed, and bytes that it holds for them.
    ///
    /// # Errors
    ///
    /// When its statistics cannot be read.
    pub fn sizes(&self) -> io::Result<(u64, u64)> {
        let text = fs::read_to_string(self.added.attributes().join("mm_stat"))?;
        let mut words = text.split_whitespace().skip(1).map(str::parse);
        match (words.next(), words.next()) {
            (Some(Ok(compressed)), Some(Ok(used))) => Ok((compressed, used)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, text)),
        }
    }

    fn file(&self) -> &File {
        self.device.as_ref().expect("there until this is dropped")
    }
}

impl Drop for KernelZram {
    fn drop(&mut self) {
        // Closed first: a device that is open is not removed.
        self.device = None;
    }
}

/// A device of that number, which goes when this is dropped.
#[derive(Debug)]
struct Added {
    control: PathBuf,
    number: u32,
}

impl Added {
    fn new(control: &Path) -> io::Result<Added> {
        // Reading the attribute is what adds a device.
        let text = fs::read_to_string(control.join("hot_add"))?;
        let number = text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, text))?;
        Ok(Added { control: control.to_owned(), number })
    }

    fn set_up(&self, algorithm: &str, bytes: usize) -> io::Result<File> {
        let attributes = self.attributes();
        fs::write(attributes.join("comp_algorithm"), algorithm)?;
        fs::write(attributes.join("disksize"), bytes.next_multiple_of(ALIGNMENT).to_string())?;
        let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
        let node = format!("/dev/zram{}", self.number);
        OpenOptions::new().read(true).write(true).custom_flags(direct).open(node)
    }

    fn attributes(&self) -> PathBuf {
        PathBuf::from(format!("/sys/block/zram{}", self.number))
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        // Whoever is told of new devices may have it open for a moment. If it stays, there is nobody to tell.
        for _ in 0..50 {
            let _ = fs::write(self.attributes().join("reset"), "1");
            if fs::write(self.control.join("hot_remove"), self.number.to_string()).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A buffer that begins at a multiple of [`ALIGNMENT`].
#[derive(Debug)]
struct Bounce {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bounce {
    fn new(len: usize) -> Bounce {
        let bytes = vec![0; len + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Bounce { bytes, start, len }
    }

    fn slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    fn slice_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

fn skip(place: &str) -> impl FnOnce(io::Error) -> Skipped + use<'_> {
    move |error| Skipped::because(format!("{place}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_zram_is_skipped_with_a_message() {
        let error = Added::new(Path::new("/nonexistent/zram-control")).unwrap_err();
        let skipped = skip("/nonexistent/zram-control")(error);
        assert!(skipped.to_string().starts_with("the kernel is left out: /nonexistent/zram-control:"));
    }

    #[test]
    fn what_hot_add_says_is_the_number_and_it_is_removed_again() {
        let control = tempfile::tempdir().unwrap();
        // A number that no machine has, so that nobody's device is touched.
        fs::write(control.path().join("hot_add"), "4000000001\n").unwrap();
        fs::write(control.path().join("hot_remove"), "").unwrap();
        let added = Added::new(control.path()).unwrap();
        assert!(added.set_up("lz4", 4096).is_err(), "there is no such device");
        drop(added);
        assert_eq!(fs::read_to_string(control.path().join("hot_remove")).unwrap(), "4000000001");

        fs::write(control.path().join("hot_add"), "nothing").unwrap();
        assert_eq!(Added::new(control.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn buffers_are_aligned() {
        for len in [0, 4096, 1 << 20] {
            let mut bounce = Bounce::new(len);
            assert_eq!((bounce.slice().as_ptr() as usize % ALIGNMENT, bounce.slice_ref().len()), (0, len));
        }
    }

    /// Runs where there is zram and root; says so where not.
    #[test]
    fn pages_come_back_from_a_device_of_its_own_and_it_goes() {
        let mut zram = match KernelZram::add("lzo-rle", 3 * 4096, 8192) {
            Ok(zram) => zram,
            Err(skipped) => return eprintln!("{skipped}"),
        };
        let block = |seed: u8| (0..8192u32).map(move |i| (i / 7) as u8 ^ seed);
        for (offset, seed) in [(4096, 1), (0, 2)] {
            zram.buffer().iter_mut().zip(block(seed)).for_each(|(place, byte)| *place = byte);
            zram.write_at(8192, offset).unwrap();
        }
        zram.read_at(8192, 4096).unwrap();
        assert!(zram.buffer()[..4096].iter().copied().eq(block(2).skip(4096)));
        assert!(zram.buffer()[4096..].iter().copied().eq(block(1).skip(4096)));
        let (compressed, used) = zram.sizes().unwrap();
        assert!(compressed > 0 && used >= compressed);
        let attributes = zram.added.attributes();
        drop(zram);
        assert!(!attributes.exists());
    }
}
