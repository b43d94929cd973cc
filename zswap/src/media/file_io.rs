//! Positioned reads and writes that transfer everything or fail.

use std::io::{self, ErrorKind};

use zpool_core::backing::BackingError;

/// Writes `bytes` at `offset`, by as many calls of `write_at` as it takes.
///
/// After a short write, the next one begins at a multiple of `alignment`, which direct I/O needs.
/// So a part may be written twice.
pub(super) fn write_all(
    bytes: &[u8],
    offset: u64,
    alignment: usize,
    mut write_at: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> Result<(), BackingError> {
    let mut done = 0;
    while done < bytes.len() {
        match write_at(&bytes[done..], offset + done as u64) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(classify(error)),
            Ok(written) => done = advance(done, written, bytes.len(), alignment, "takes")?,
        }
    }
    Ok(())
}

/// Fills `into` from `offset` on, by as many calls of `read_at` as it takes, as [`write_all`] does.
pub(super) fn read_all(
    into: &mut [u8],
    offset: u64,
    alignment: usize,
    mut read_at: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> Result<(), BackingError> {
    let (mut done, len) = (0, into.len());
    while done < len {
        match read_at(&mut into[done..], offset + done as u64) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(classify(error)),
            Ok(read) => done = advance(done, read, len, alignment, "has")?,
        }
    }
    Ok(())
}

/// Returns where the next call begins, after one at `done` that transferred `moved` bytes.
fn advance(
    done: usize,
    moved: usize,
    len: usize,
    alignment: usize,
    verb: &str,
) -> Result<usize, BackingError> {
    let next = done + moved;
    if next >= len {
        return Ok(len);
    }
    let aligned = next - next % alignment;
    if aligned <= done {
        return Err(BackingError::failed(format!(
            "the file {verb} no more than {next} of {len} bytes of a segment: was it truncated?"
        )));
    }
    Ok(aligned)
}

fn classify(error: io::Error) -> BackingError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BackingError::Full,
        _ => BackingError::failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that takes and returns at most this many bytes per call, and is interrupted each
    /// second call.
    struct Slow {
        bytes: Vec<u8>,
        most: usize,
        calls: Vec<u64>,
    }

    impl Slow {
        fn new(most: usize) -> Slow {
            Slow { bytes: vec![0; 64], most, calls: Vec::new() }
        }

        fn begin(&mut self, offset: u64) -> io::Result<usize> {
            self.calls.push(offset);
            match self.calls.len() % 2 {
                1 => Err(ErrorKind::Interrupted.into()),
                _ => Ok(offset as usize),
            }
        }

        fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            let at = self.begin(offset)?;
            let len = bytes.len().min(self.most);
            self.bytes[at..at + len].copy_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn read_at(&mut self, into: &mut [u8], offset: u64) -> io::Result<usize> {
            let at = self.begin(offset)?;
            let len = into.len().min(self.most);
            into[..len].copy_from_slice(&self.bytes[at..at + len]);
            Ok(len)
        }
    }

    /// Short transfers continue at an aligned offset, interrupted ones are repeated.
    #[test]
    fn short_transfers_go_on_aligned() {
        let contents: Vec<u8> = (1..=48).collect();
        let mut file = Slow::new(21);
        write_all(&contents, 16, 8, |bytes, offset| file.write_at(bytes, offset)).unwrap();
        assert_eq!(file.bytes[16..64], contents);
        assert_eq!(file.calls, [16, 16, 32, 32, 48, 48]);
        let mut read = [0; 48];
        file.calls.clear();
        read_all(&mut read, 16, 8, |into, offset| file.read_at(into, offset)).unwrap();
        assert_eq!((&read[..], file.calls.as_slice()), (&*contents, &[16, 16, 32, 32, 48, 48][..]));
    }

    /// A file that moves nothing, or less than the alignment, is an error and no endless loop.
    #[test]
    fn stuck_transfers_fail() {
        for most in [0, 7] {
            let mut file = Slow::new(most);
            let error = write_all(&[1; 16], 0, 8, |bytes, at| file.write_at(bytes, at));
            assert!(matches!(error, Err(BackingError::Failed(_))), "{error:?}");
            let error = read_all(&mut [1; 16], 0, 8, |into, at| file.read_at(into, at));
            assert!(matches!(error, Err(BackingError::Failed(_))), "{error:?}");
        }
    }

    /// A disk or quota that is full in the middle is recognised as such.
    #[test]
    fn full_disk_is_full() {
        for (kind, full) in [
            (ErrorKind::StorageFull, true),
            (ErrorKind::QuotaExceeded, true),
            (ErrorKind::Other, false),
        ] {
            let mut room = 8;
            let error = write_all(&[1; 32], 0, 8, |_, _| match std::mem::take(&mut room) {
                0 => Err(kind.into()),
                room => Ok(room),
            });
            assert_eq!(matches!(error, Err(BackingError::Full)), full, "{error:?}");
        }
    }
}
