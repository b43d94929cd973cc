//! Names of segments on a medium that may carry out a request late.

use std::collections::BTreeMap;

use super::SegmentNumber;
use crate::internal::sync::Mutex;

/// The version of each segment that is on a remote medium: a number that no other write has.
///
/// A write that timed out may still be carried out, after a later write of the same segment. Under
/// one name, old bytes would then replace new ones. So each write gets a name of its own, from its
/// segment and version, and this table knows which one holds.
///
/// # Example
///
/// ```
/// use zpool_core::backing::{SegmentNumber, SegmentVersions};
///
/// let versions = SegmentVersions::new();
/// let segment = SegmentNumber::new(7);
/// let first = versions.begin_write(segment);
/// versions.fail_write(segment, first); // no answer; it may or may not be on the medium
///
/// let second = versions.begin_write(segment);
/// versions.finish_write(segment, second);
/// assert_eq!(versions.current(segment), Some(second));
/// assert_eq!(versions.take_strays(), [(segment, first)]);
/// ```
#[derive(Debug, Default)]
pub struct SegmentVersions {
    state: Mutex<VersionState>,
}

#[derive(Debug, Default)]
struct VersionState {
    /// The number of writes that have begun.
    writes: u64,
    current: BTreeMap<SegmentNumber, u64>,
    /// Versions that nothing refers to and that may be on the medium.
    strays: Vec<(SegmentNumber, u64)>,
}

impl SegmentVersions {
    /// Makes a table of segments that hold nothing.
    pub fn new() -> SegmentVersions {
        SegmentVersions::default()
    }

    /// Returns the version for a write of `segment` that begins now. The segment holds nothing
    /// until the write has finished.
    pub fn begin_write(&self, segment: SegmentNumber) -> u64 {
        let mut state = self.state.lock();
        state.forget_current(segment);
        state.writes += 1;
        state.writes
    }

    /// Notes that the medium has all of `version`, which `segment` holds from now on.
    pub fn finish_write(&self, segment: SegmentNumber, version: u64) {
        self.state.lock().current.insert(segment, version);
    }

    /// Notes that `version` was not written, or may be written late.
    pub fn fail_write(&self, segment: SegmentNumber, version: u64) {
        self.state.lock().strays.push((segment, version));
    }

    /// Returns the version that `segment` holds.
    pub fn current(&self, segment: SegmentNumber) -> Option<u64> {
        self.state.lock().current.get(&segment).copied()
    }

    /// Notes that `segment` holds nothing. What it held becomes a stray.
    pub fn discard(&self, segment: SegmentNumber) {
        self.state.lock().forget_current(segment);
    }

    /// Notes that no segment holds anything.
    pub fn discard_all(&self) {
        let mut state = self.state.lock();
        let current = std::mem::take(&mut state.current);
        state.strays.extend(current);
    }

    /// Takes the versions that can be deleted on the medium. Each is taken once; those that could
    /// not be deleted are returned by [`fail_write`](Self::fail_write).
    pub fn take_strays(&self) -> Vec<(SegmentNumber, u64)> {
        std::mem::take(&mut self.state.lock().strays)
    }
}

impl VersionState {
    fn forget_current(&mut self, segment: SegmentNumber) {
        if let Some(version) = self.current.remove(&segment) {
            self.strays.push((segment, version));
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// A version is current from the end of its write to the next write or discard, and a stray
    /// once after that.
    #[test]
    fn versions_become_strays_once() {
        let versions = SegmentVersions::new();
        let (first, second) = (SegmentNumber::new(1), SegmentNumber::new(2));
        for segment in [first, second] {
            let version = versions.begin_write(segment);
            assert_eq!(versions.current(segment), None);
            versions.finish_write(segment, version);
            assert_eq!(versions.current(segment), Some(version));
        }
        assert_eq!(versions.take_strays(), []);
        assert_eq!(versions.begin_write(first), 3);
        assert_eq!((versions.current(first), versions.current(second)), (None, Some(2)));
        assert_eq!(versions.take_strays(), [(first, 1)]);
        versions.fail_write(first, 3);
        versions.discard(second);
        versions.discard(second);
        assert_eq!(versions.take_strays(), [(first, 3), (second, 2)]);
        versions.finish_write(second, 4);
        versions.discard_all();
        assert_eq!((versions.current(second), versions.take_strays()), (None, vec![(second, 4)]));
    }
}
