//! The tier passes the suite in memory and in a directory, loses what the object store loses, and
//! leaves nothing behind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use zpool_conformance::backing_store_suite;
use zpool_core::backing::{
    BackingCapabilities, BackingError, BackingStore, CapabilitiesError, SegmentNumber,
};
use zswap_tier_object_store::object_store::ObjectStore;
use zswap_tier_object_store::object_store::local::LocalFileSystem;
use zswap_tier_object_store::object_store::memory::InMemory;
use zswap_tier_object_store::{ObjectStoreTier, ObjectStoreTierError};

const SEGMENT_BYTES: usize = 10_000;
const FIRST: SegmentNumber = SegmentNumber::new(0);

/// Makes a tier of 20 segments.
fn tier_in(store: impl ObjectStore) -> ObjectStoreTier {
    let builder = ObjectStoreTier::builder(Arc::new(store), 20 * SEGMENT_BYTES as u64);
    builder.segment_bytes(SEGMENT_BYTES).build().unwrap()
}

/// A tier in a directory of its own, which goes after it.
#[derive(Debug)]
struct Local {
    tier: ObjectStoreTier,
    directory: TempDir,
}

impl Local {
    fn new() -> Local {
        let directory = TempDir::new().unwrap();
        Local { tier: tier_in(Local::store(directory.path())), directory }
    }

    fn store(directory: &Path) -> LocalFileSystem {
        LocalFileSystem::new_with_prefix(directory).unwrap()
    }

    /// Returns the files of the tier.
    fn files(&self) -> Vec<std::path::PathBuf> {
        let folder = self.directory.path().join(self.tier.prefix().as_ref());
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl BackingStore for Local {
    fn capabilities(&self) -> BackingCapabilities {
        self.tier.capabilities()
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        self.tier.write(segment, bytes)
    }

    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        self.tier.read(segment, offset, into)
    }

    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
        self.tier.discard(segment)
    }
}

backing_store_suite!(in_memory, [parts, remote], || tier_in(InMemory::new()));
backing_store_suite!(in_a_directory, [parts, remote], Local::new);
backing_store_suite!(on_a_given_runtime, [parts, remote], || {
    // For all tiers of the test program.
    static RUNTIME: std::sync::LazyLock<tokio::runtime::Runtime> = std::sync::LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
    });
    let builder = ObjectStoreTier::builder(Arc::new(InMemory::new()), 20 << 12);
    builder.segment_bytes(1 << 12).runtime(RUNTIME.handle().clone()).build().unwrap()
});

/// An object that another process deletes is gone, and can be written again, under another name.
/// One that is cut short is a failure.
#[test]
fn lost_object_is_gone() {
    let local = Local::new();
    local.tier.write(FIRST, &[7; 100]).unwrap();
    let [file] = &local.files()[..] else { panic!("one object: {:?}", local.files()) };
    std::fs::write(file, [7; 50]).unwrap();
    let mut bytes = [0; 100];
    let error = local.tier.read(FIRST, 0, &mut bytes).unwrap_err();
    assert!(matches!(error, BackingError::Failed(_)), "{error}");
    std::fs::remove_file(file).unwrap();
    assert!(matches!(local.tier.read(FIRST, 0, &mut bytes), Err(BackingError::Gone)));
    local.tier.discard(FIRST).unwrap();
    local.tier.write(FIRST, &[8; 100]).unwrap();
    local.tier.read(FIRST, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [8; 100]);
    // So a write that is carried out late does no harm.
    assert_ne!(local.files(), std::slice::from_ref(file));
}

/// Discarded segments, and those of a dropped tier, have no objects.
#[test]
fn drop_deletes_objects() {
    let directory = TempDir::new().unwrap();
    let (kept, dropped) =
        (tier_in(Local::store(directory.path())), tier_in(Local::store(directory.path())));
    let files = |tier: &str| match std::fs::read_dir(directory.path().join(tier)) {
        Ok(entries) => entries.count(),
        Err(_) => 0,
    };
    let (kept_prefix, dropped_prefix) = (kept.prefix().to_string(), dropped.prefix().to_string());
    for n in 0..10 {
        kept.write(SegmentNumber::new(n), &[7; 10]).unwrap();
        dropped.write(SegmentNumber::new(n), &[7; 10]).unwrap();
    }
    dropped.discard(FIRST).unwrap();
    assert_eq!((files(&kept_prefix), files(&dropped_prefix)), (10, 9));
    drop(dropped);
    assert_eq!((files(&kept_prefix), files(&dropped_prefix)), (10, 0));
}

/// A directory that cannot be written is a failure, and neither a panic nor a hang.
#[test]
fn unusable_store_fails() {
    let directory = TempDir::new().unwrap();
    let tier = tier_in(Local::store(directory.path()));
    // A file where the tier's folder would be.
    std::fs::write(directory.path().join("zswap-tier"), b"in the way").unwrap();
    assert!(matches!(tier.write(FIRST, &[7; 10]), Err(BackingError::Failed(_))));
}

/// Tiers work from inside a runtime, whose threads must not call `block_on`.
#[tokio::test]
async fn tier_works_inside_a_runtime() {
    let tier = tier_in(InMemory::new());
    tier.write(FIRST, &[7; 10]).unwrap();
    let mut bytes = [0; 10];
    tier.read(FIRST, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 10]);
}

/// A runtime that makes no progress without the calling thread ends in a timeout.
#[test]
fn stuck_runtime_ends_in_timeout() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let builder = ObjectStoreTier::builder(Arc::new(InMemory::new()), 1 << 20);
    let builder = builder.segment_bytes(1 << 12).timeout(Duration::from_millis(20));
    let tier = builder.runtime(runtime.handle().clone()).build().unwrap();
    let error = tier.write(FIRST, &[7; 10]).unwrap_err();
    assert!(error.to_string().contains("within 20ms"), "{error}");
}

/// The runtime of a tier may call it by `spawn_blocking`, even if it has one worker only.
#[test]
fn spawn_blocking_on_its_runtime_works() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let builder = ObjectStoreTier::builder(Arc::new(InMemory::new()), 1 << 20);
    let builder = builder.segment_bytes(1 << 12).runtime(runtime.handle().clone());
    let tier = builder.build().unwrap();
    let written = runtime.block_on(async {
        let write = move || tier.write(FIRST, &[7; 10]);
        tokio::spawn(tokio::task::spawn_blocking(write)).await.unwrap().unwrap()
    });
    written.unwrap();
}

/// A tier of less than a segment, or of more than can be numbered, is an error.
#[test]
fn impossible_sizes_are_refused() {
    let error = ObjectStoreTier::builder(Arc::new(InMemory::new()), 1000).build().unwrap_err();
    assert!(
        matches!(error, ObjectStoreTierError::Capabilities(CapabilitiesError::NoSegments)),
        "{error}"
    );
    let builder = ObjectStoreTier::builder(Arc::new(InMemory::new()), u64::MAX);
    let error = builder.clone().segment_bytes(4096).build().unwrap_err();
    assert!(
        matches!(
            error,
            ObjectStoreTierError::Capabilities(CapabilitiesError::TooManySegments { .. })
        ),
        "{error}"
    );
    assert!(error.to_string().contains("at most 4294967295"), "{error}");
    let error = builder.segment_bytes(0).build().unwrap_err();
    assert!(
        matches!(error, ObjectStoreTierError::Capabilities(CapabilitiesError::SegmentBytes(0))),
        "{error}"
    );
}
