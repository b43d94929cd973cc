//! Objects of a few bytes in large frames: tens of thousands of slots per zspage, numbered by 16
//! bits.

use std::sync::Arc;

use zpool_core::page::HeapSource;
use zpool_core::spec::Component;
use zpool_core::{PoolConfig, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

/// Objects of a few bytes are inserted, compacted and freed, for all frame sizes.
#[test]
fn tiny_objects_survive_compaction() {
    for (frame_size, step, max) in [
        (65_536, 8, 9),
        (65_536, 16, 17),
        (65_536, 16, 33),
        (65_536, 16, 63),
        (16_384, 8, 9),
        (4096, 8, 1),
    ] {
        let config = PoolConfig::new(Arc::new(HeapSource::new(frame_size)), max);
        let spec: Component = format!("z(step={step})").parse().unwrap();
        let pool = ZsmallocDriver.create(&config.with_params(spec.params)).unwrap();
        for len in [1, max / 2 + 1, max] {
            let handle = pool.insert(&vec![len as u8; len]).unwrap();
            assert_eq!(pool.read(&handle).unwrap()[..], vec![len as u8; len]);
            pool.free(handle).unwrap();
        }
        pool.validate().unwrap();
    }
}

/// More objects than any zspage has slots, so that the last slots are used as well.
#[test]
fn tiny_objects_fill_last_slot() {
    let pool =
        ZsmallocDriver.create(&PoolConfig::new(Arc::new(HeapSource::new(65_536)), 33)).unwrap();
    let object = |i: usize| (i as u32).to_le_bytes().repeat(9)[..33].to_vec();
    let handles: Vec<_> = (0..70_000).map(|i| pool.insert(&object(i)).unwrap()).collect();
    let full = pool.stats();
    let group = full.groups.iter().find(|group| group.objects > 0).unwrap();
    assert!(group.slots_per_page > 30_000, "{group:?}");
    assert_eq!((full.objects, group.pages), (70_000, 70_000usize.div_ceil(group.slots_per_page)));
    for (i, handle) in handles.iter().enumerate() {
        assert_eq!(pool.read(handle).unwrap()[..], object(i));
    }
    pool.validate().unwrap();
    handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
    assert_eq!(pool.stats().objects, 0);
    pool.validate().unwrap();
}
