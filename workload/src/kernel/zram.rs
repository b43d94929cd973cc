//! The kernel's zram, as the yardstick for storing and loading: a device of its own, written and
//! read past the page cache.
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

use super::zswap::Skipped;

use crate::undo::{Undo, Undoable};

const CONTROL: &str = "/sys/class/zram-control";

/// Alignment in bytes that unbuffered requests need: zram's block, which is a page.
const ALIGNMENT: usize = 4096;

/// A zram device, added for a measurement. Needs root.
///
/// It is removed when this is dropped, after a panic, and when a signal such as SIGINT, SIGTERM,
/// SIGHUP or SIGQUIT ends the process.
#[derive(Debug)]
pub struct KernelZram {
    added: Undoable<AddedDevice>,
    number: u32,
    bounce: AlignedBuffer,
    request_bytes: usize,
}

impl KernelZram {
    /// Adds a device of `bytes` that compresses with `algorithm`. A request has at most
    /// `request_bytes`. Both are multiples of a page.
    ///
    /// # Errors
    ///
    /// [`Skipped`] if there is no zram, if no device may be added, or if it does not know the
    /// algorithm.
    ///
    /// # Panics
    ///
    /// If `bytes` or `request_bytes` is not a multiple of a page, or if `request_bytes` is 0.
    pub fn add(algorithm: &str, bytes: usize, request_bytes: usize) -> Result<Self, Skipped> {
        assert!(
            request_bytes > 0 && [bytes, request_bytes].iter().all(|bytes| bytes % ALIGNMENT == 0),
            "sizes must be whole pages"
        );
        let added =
            Undoable::new(AddedDevice::none(Path::new(CONTROL))).map_err(Skipped::at(CONTROL))?;
        // Under the lock, so that a signal finds either no device or one whose number is known.
        let number = added.lock().add().map_err(Skipped::at(CONTROL))?;
        added.lock().set_up(algorithm, bytes).map_err(Skipped::at(&format!("zram{number}")))?;
        Ok(KernelZram { added, number, bounce: AlignedBuffer::new(bytes), request_bytes })
    }

    /// Adds a device that is not opened for requests, to be swapped to.
    pub(crate) fn add_unopened(algorithm: &str, bytes: usize) -> Result<Self, Skipped> {
        let zram = KernelZram::add(algorithm, bytes, ALIGNMENT)?;
        zram.added.lock().device = None;
        Ok(zram)
    }

    /// Returns the device's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the buffer that [`write`](Self::write) writes and [`read`](Self::read) fills. It is
    /// as long as the device, and aligned as its requests need.
    pub fn buffer(&mut self) -> &mut [u8] {
        self.bounce.slice()
    }

    /// Writes the buffer to the device, request by request.
    ///
    /// # Errors
    ///
    /// The kernel's. `WriteZero` if it wrote less.
    pub fn write(&mut self) -> io::Result<()> {
        let mut requests = (0..)
            .step_by(self.request_bytes)
            .zip(self.bounce.slice_ref().chunks(self.request_bytes));
        requests.try_for_each(|(offset, request)| {
            self.added.lock().opened()?.write_all_at(request, offset)
        })
    }

    /// Reads the device into the buffer, request by request.
    ///
    /// # Errors
    ///
    /// The kernel's. `UnexpectedEof` if it read less.
    pub fn read(&mut self) -> io::Result<()> {
        let mut requests = (0..)
            .step_by(self.request_bytes)
            .zip(self.bounce.slice().chunks_mut(self.request_bytes));
        requests.try_for_each(|(offset, request)| {
            self.added.lock().opened()?.read_exact_at(request, offset)
        })
    }

    /// Returns the compressed bytes of the device's data, and the bytes that it holds for them.
    ///
    /// # Errors
    ///
    /// If its statistics cannot be read.
    pub fn sizes(&self) -> io::Result<(u64, u64)> {
        let text = fs::read_to_string(attributes(self.number).join("mm_stat"))?;
        let mut words = text.split_whitespace().skip(1).map(str::parse);
        match (words.next(), words.next()) {
            (Some(Ok(compressed)), Some(Ok(used))) => Ok((compressed, used)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, text)),
        }
    }
}

/// A device that was added, or none yet.
#[derive(Debug)]
struct AddedDevice {
    control: PathBuf,
    number: Option<u32>,
    device: Option<File>,
}

impl AddedDevice {
    fn none(control: &Path) -> AddedDevice {
        AddedDevice { control: control.to_owned(), number: None, device: None }
    }

    /// Adds a device and returns its number.
    fn add(&mut self) -> io::Result<u32> {
        // Reading the attribute is what adds a device.
        let text = fs::read_to_string(self.control.join("hot_add"))?;
        let number =
            text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, text))?;
        self.number = Some(number);
        Ok(number)
    }

    fn set_up(&mut self, algorithm: &str, bytes: usize) -> io::Result<()> {
        let number = self.number.ok_or(io::ErrorKind::NotFound)?;
        let attributes = attributes(number);
        fs::write(attributes.join("comp_algorithm"), algorithm)?;
        fs::write(attributes.join("disksize"), bytes.to_string())?;
        let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
        let node = format!("/dev/zram{number}");
        self.device =
            Some(OpenOptions::new().read(true).write(true).custom_flags(direct).open(node)?);
        Ok(())
    }

    fn opened(&self) -> io::Result<&File> {
        self.device.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn attributes(number: u32) -> PathBuf {
    PathBuf::from(format!("/sys/block/zram{number}"))
}

impl Undo for AddedDevice {
    fn undo(&mut self) {
        // Close it first, because an open device is not removed.
        self.device = None;
        let Some(number) = self.number.take() else { return };
        // A program that watches for new devices may have it open for a moment.
        for _ in 0..50 {
            let _ = fs::write(attributes(number).join("reset"), "1");
            if fs::write(self.control.join("hot_remove"), number.to_string()).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!(
            "cannot remove zram{number}: write {number} to {}",
            self.control.join("hot_remove").display()
        );
    }
}

/// A buffer that begins at a multiple of [`ALIGNMENT`].
#[derive(Debug)]
struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    fn new(len: usize) -> AlignedBuffer {
        let bytes = vec![0; len + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        AlignedBuffer { bytes, start, len }
    }

    fn slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    fn slice_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine without zram is skipped with a message.
    #[test]
    fn missing_zram_is_skipped() {
        let error = AddedDevice::none(Path::new("/nonexistent/zram-control")).add().unwrap_err();
        let skipped = Skipped::at("/nonexistent/zram-control")(error);
        assert!(
            skipped.to_string().starts_with("the kernel is left out: /nonexistent/zram-control:")
        );
    }

    /// The number that `hot_add` returns is the device's, and it is removed again.
    #[test]
    fn added_device_is_removed_again() {
        let control = tempfile::tempdir().unwrap();
        // A number that no machine has, so that no real device is touched.
        fs::write(control.path().join("hot_add"), "4000000001\n").unwrap();
        fs::write(control.path().join("hot_remove"), "").unwrap();
        let added = Undoable::new(AddedDevice::none(control.path())).unwrap();
        assert_eq!(added.lock().add().unwrap(), 4_000_000_001);
        assert!(added.lock().set_up("lz4", 4096).is_err(), "there is no such device");
        drop(added);
        assert_eq!(fs::read_to_string(control.path().join("hot_remove")).unwrap(), "4000000001");

        fs::write(control.path().join("hot_add"), "nothing").unwrap();
        assert_eq!(
            AddedDevice::none(control.path()).add().unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn buffers_are_aligned() {
        for len in [0, 4096, 1 << 20] {
            let mut bounce = AlignedBuffer::new(len);
            assert_eq!(
                (bounce.slice().as_ptr() as usize % ALIGNMENT, bounce.slice_ref().len()),
                (0, len)
            );
        }
    }

    /// Without zram and root, this only reports that it was skipped.
    #[test]
    fn zram_returns_its_pages() {
        // The last request is shorter than the others.
        let mut zram = match KernelZram::add("lzo-rle", 3 * 4096, 8192) {
            Ok(zram) => zram,
            Err(skipped) => return eprintln!("{skipped}"),
        };
        let bytes: Vec<u8> = (0..3 * 4096u32).map(|i| (i / 7) as u8).collect();
        zram.buffer().copy_from_slice(&bytes);
        zram.write().unwrap();
        zram.buffer().fill(0);
        zram.read().unwrap();
        assert_eq!(zram.buffer(), bytes);
        let (compressed, used) = zram.sizes().unwrap();
        assert!(compressed > 0 && used >= compressed);
        let attributes = attributes(zram.number());
        drop(zram);
        assert!(!attributes.exists());
    }
}
