//! Names of segments on a medium that may carry out a request late.

use std::collections::BTreeMap;

use super::{BackingError, SegmentNumber};
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
/// use zpool_core::backing::{BackingError, SegmentNumber, SegmentVersions};
///
/// let versions = SegmentVersions::new();
/// let segment = SegmentNumber::new(7);
/// // No answer; it may or may not be on the medium.
/// versions.write(segment, |_first| Err(BackingError::failed("timeout"))).unwrap_err();
/// assert_eq!(versions.current(segment), None);
///
/// versions.write(segment, |_second| Ok(()))?;
/// assert_eq!(versions.current(segment), Some(2));
/// versions.delete_strays(|strays| {
///     assert_eq!(strays, [(segment, 1)]);
///     Ok(())
/// })?;
/// # Ok::<(), BackingError>(())
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

    /// Writes `segment` by `put`, which puts a new version of it on the medium. The segment holds
    /// nothing until `put` has succeeded. If `put` fails or panics, its version becomes a stray,
    /// because it may still be written late.
    ///
    /// # Errors
    ///
    /// Those of `put`.
    pub fn write(
        &self,
        segment: SegmentNumber,
        put: impl FnOnce(u64) -> Result<(), BackingError>,
    ) -> Result<(), BackingError> {
        let version = self.begin_write(segment);
        let mut written = StraysUnless { versions: self, strays: vec![(segment, version)] };
        put(version)?;
        written.strays.clear();
        self.state.lock().current.insert(segment, version);
        Ok(())
    }

    fn begin_write(&self, segment: SegmentNumber) -> u64 {
        let mut state = self.state.lock();
        state.forget_current(segment);
        state.writes += 1;
        state.writes
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

    /// Deletes the strays by `delete`, which is not called if there are none. If it fails or
    /// panics, they stay strays, and the next call passes all of them again.
    ///
    /// # Errors
    ///
    /// Those of `delete`.
    pub fn delete_strays(
        &self,
        delete: impl FnOnce(&[(SegmentNumber, u64)]) -> Result<(), BackingError>,
    ) -> Result<(), BackingError> {
        let strays = std::mem::take(&mut self.state.lock().strays);
        if strays.is_empty() {
            return Ok(());
        }
        let mut deleted = StraysUnless { versions: self, strays };
        delete(&deleted.strays)?;
        deleted.strays.clear();
        Ok(())
    }
}

/// Versions that become strays when this is dropped, unless they are cleared before.
struct StraysUnless<'v> {
    versions: &'v SegmentVersions,
    strays: Vec<(SegmentNumber, u64)>,
}

impl Drop for StraysUnless<'_> {
    fn drop(&mut self) {
        self.versions.state.lock().strays.append(&mut self.strays);
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
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn strays(versions: &SegmentVersions) -> Vec<(SegmentNumber, u64)> {
        let mut seen = Vec::new();
        let deleted = versions.delete_strays(|strays| {
            seen.extend_from_slice(strays);
            Ok(())
        });
        deleted.unwrap();
        seen
    }

    /// A version is current from the end of its write to the next write or discard, and a stray
    /// once after that.
    #[test]
    fn versions_become_strays_once() {
        let versions = SegmentVersions::new();
        let (first, second) = (SegmentNumber::new(1), SegmentNumber::new(2));
        for (segment, number) in [(first, 1), (second, 2)] {
            let put = |version| {
                assert_eq!((version, versions.current(segment)), (number, None));
                Ok(())
            };
            versions.write(segment, put).unwrap();
            assert_eq!(versions.current(segment), Some(number));
        }
        assert_eq!(strays(&versions), []);
        versions.write(first, |_| Err(BackingError::Full)).unwrap_err();
        assert_eq!((versions.current(first), versions.current(second)), (None, Some(2)));
        versions.discard(second);
        versions.discard(second);
        assert_eq!(strays(&versions), [(first, 1), (first, 3), (second, 2)]);
        versions.write(second, |_| Ok(())).unwrap();
        versions.discard_all();
        assert_eq!((versions.current(second), strays(&versions)), (None, vec![(second, 4)]));
        assert_eq!(strays(&versions), []);
    }

    /// Neither a failure nor a panic loses a stray.
    #[test]
    fn strays_survive_failures_and_panics() {
        let versions = SegmentVersions::new();
        let segment = SegmentNumber::new(5);
        let put = || versions.write(segment, |_| panic!("a medium that panics"));
        catch_unwind(AssertUnwindSafe(put)).unwrap_err();
        assert_eq!(versions.current(segment), None);
        versions.delete_strays(|_| Err(BackingError::failed("no answer"))).unwrap_err();
        let delete = || versions.delete_strays(|_| panic!("a medium that panics"));
        catch_unwind(AssertUnwindSafe(delete)).unwrap_err();
        assert_eq!(strays(&versions), [(segment, 1)]);
    }
}
