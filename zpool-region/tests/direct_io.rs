//! S1: a device that writes to pages while they are reclaimed loses nothing.

#![cfg(target_os = "linux")]

mod common;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{build, fill};
use zpool_region::Region;

/// Bytes of a read, each of which covers many pages.
const READ: usize = 1 << 20;
const READS: usize = 200;

/// A file of `READ` bytes, opened so that reads go from the device to the pages of the caller.
/// `None` if the file system cannot do that.
fn direct_file(content: &[u8]) -> Option<(tempfile::TempDir, File)> {
    // The temporary folder may be memory, which has no direct reads; the build's is on a disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).ok()?;
    let path = folder.path().join("direct");
    let mut file = File::create(&path).ok()?;
    file.write_all(content).ok()?;
    file.sync_all().ok()?;
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    match direct {
        Ok(file) => Some((folder, file)),
        Err(error) => {
            println!("skipped: no direct reads here: {error}");
            None
        }
    }
}

/// 200 direct reads of 1 MiB into a region whose pages are continuously put away: none is wrong.
#[test]
fn s1_direct_reads_survive_reclaim() {
    let mut content = vec![0; READ];
    fill(&mut content, 77);
    let Some((_folder, file)) = direct_file(&content) else { return };
    let Some(mut region) = build(Region::builder().len(4 * READ).limit_bytes(8 * READ)) else {
        return;
    };
    let control = region.control();
    let done = AtomicBool::new(false);
    let wrong = thread::scope(|scope| {
        let reclaim = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                control.evict(0..READ);
            }
        });
        let mut wrong = 0;
        for _ in 0..READS {
            region.discard(0..READ);
            let mut read = 0;
            while read < READ {
                // A kernel that cannot fault pages in reads less, or nothing: touch and try again.
                region[read..READ].iter_mut().step_by(common::PAGE).for_each(|byte| *byte = 1);
                match file.read_at(&mut region[read..READ], read as u64) {
                    Ok(0) => panic!("the file has {READ} bytes"),
                    Ok(bytes) => read += bytes,
                    Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {}
                    Err(error) => panic!("a direct read: {error}"),
                }
            }
            wrong += usize::from(region[..READ] != content);
        }
        done.store(true, Ordering::Relaxed);
        reclaim.join().unwrap();
        wrong
    });
    assert_eq!(wrong, 0, "of {READS} reads");
    let stats = region.stats();
    assert!(stats.units_evicted > 0, "{stats:?}");
    println!("{} pages were pinned, {} put away", stats.units_pinned, stats.units_evicted);
}
