//! Memory that a reclaim releases, as the operating system counts it. It is one test in a process
//! of its own, because it measures the whole process.

#![cfg(target_os = "linux")]

use std::fs;

use zpool_core::page::{MmapSource, PageSource};
use zpool_core::{Evict, Handle, HandleId, NotEvicted, PoolConfig, ZPool, ZPoolDriver};
use zpool_zbud::ZbudDriver;

use std::collections::HashMap;
use std::sync::Arc;

/// Returns the resident bytes of this process.
fn resident(frame: usize) -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let frames: usize =
        statm.split(' ').nth(1).expect("its second number").parse().expect("a number");
    frames * frame
}

struct Owner<'a> {
    pool: &'a dyn ZPool,
    objects: HashMap<HandleId, Handle>,
}

impl Evict for Owner<'_> {
    fn evict(&mut self, id: HandleId) -> Result<(), NotEvicted> {
        let handle = self.objects.remove(&id).expect("asked for once");
        self.pool.free(handle).map_err(|_| NotEvicted)
    }
}

/// The system does not count reclaimed pages any more.
#[test]
fn reclaimed_pages_are_not_resident() {
    let source = Arc::new(MmapSource::new());
    let frame = source.frame_size();
    let pool = ZbudDriver.create(&PoolConfig::new(source, frame)).unwrap();
    let empty = resident(frame);
    let object = vec![0x5A; frame / 2];
    let objects =
        (0..2 * 8192).map(|_| pool.insert(&object).unwrap()).map(|handle| (handle.id(), handle));
    let mut owner = Owner { pool: &*pool, objects: objects.collect() };
    let full = resident(frame);
    assert_eq!(pool.stats().resident_frames, 8192);
    assert!(full - empty >= 8192 * frame, "{} bytes for 8192 pages", full - empty);

    let before = pool.bytes_held();
    let report = pool.reclaim(6000, &mut owner).unwrap();
    let gone = full - resident(frame);
    println!("reclaimed {} pages: {gone} bytes less are resident", report.pages);
    assert_eq!((report.pages, before - pool.bytes_held()), (6000, 6000 * frame));
    // The test's own map, the test harness and the allocator contribute far less than 1 %.
    assert!(gone.abs_diff(6000 * frame) < 60 * frame, "{gone} bytes for 6000 pages");
}
