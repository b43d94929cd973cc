//! Placement of objects: two per page, justified to its ends, in the smallest hole that is enough.

use std::sync::Arc;

use zpool_core::page::{FaultPlan, FaultySource, HeapSource, PageSource};
use zpool_core::spec::Params;
use zpool_core::{CreateError, GroupStats, Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zbud::ZbudDriver;

const PAGE: usize = 4096;
const CHUNK: usize = PAGE / 64;

fn pool(max_object_len: usize) -> (Box<dyn ZPool>, Arc<HeapSource>) {
    let source = Arc::new(HeapSource::new(PAGE));
    (ZbudDriver.create(&PoolConfig::new(source.clone(), max_object_len)).unwrap(), source)
}

fn put(pool: &dyn ZPool, len: usize) -> Handle {
    pool.insert(&vec![len as u8; len]).unwrap()
}

/// Returns the page that an object is in, and where it begins there.
fn place(pool: &dyn ZPool, handle: &Handle) -> (usize, usize) {
    let address = pool.read(handle).unwrap().as_ptr().addr();
    (address / PAGE, address % PAGE)
}

/// Objects of up to half a page always share pages in pairs.
#[test]
fn objects_of_half_a_page_pair() {
    let (pool, source) = pool(PAGE);
    let lens = (0..5000).map(|i| 1 + i * 977 % (PAGE / 2));
    let handles: Vec<_> = lens.map(|len| put(&*pool, len)).collect();
    assert_eq!(source.charged_frames(), handles.len() / 2);
}

#[test]
fn one_object_per_page_at_worst() {
    let (pool, source) = pool(PAGE);
    let lens = (0..1000).map(|i| PAGE / 2 + 1 + i * 977 % (PAGE / 2));
    let handles: Vec<_> = lens.map(|len| put(&*pool, len)).collect();
    assert_eq!(source.charged_frames(), handles.len());
    // A short object shares the page of any that leaves a chunk; the rest share with each other.
    let short: Vec<_> = (0..1000).map(|_| put(&*pool, 1)).collect();
    let full = handles.iter().filter(|h| pool.read(h).unwrap().len() > PAGE - CHUNK).count();
    assert_eq!((short.len(), source.charged_frames()), (1000, handles.len() + full.div_ceil(2)));
}

/// The footprint of an object is its share of the charged bytes of a pool with many of that length.
/// (It was the length, although a short object takes half a page.)
#[test]
fn footprint_is_share_of_charged_bytes() {
    for (frame, max) in [(4096, 4096), (16_384, 4096), (4096, 16_384), (4096, 65_536)] {
        let lens = [1, 65, max / 8, max / 4 + 1, max / 2, max / 2 + 1, max * 3 / 4, max - 1, max];
        for len in lens {
            let source = Arc::new(HeapSource::new(frame));
            let pool = ZbudDriver.create(&PoolConfig::new(source.clone(), max)).unwrap();
            let empty = pool.footprint(len);
            let handles: Vec<_> = (0..200).map(|_| put(&*pool, len)).collect();
            let share = source.charged_bytes() / handles.len();
            assert_eq!(
                (pool.footprint(len), empty),
                (share, share),
                "{len} of {max} bytes, frames of {frame}"
            );
        }
    }
}

#[test]
fn one_object_may_fill_a_page() {
    let (pool, source) = pool(PAGE);
    let handle = put(&*pool, PAGE);
    assert_eq!((place(&*pool, &handle).1, source.charged_frames()), (0, 1));
    let stats = pool.stats();
    assert_eq!((stats.rounding_bytes, stats.fragmentation_bytes), (0, 0));
}

/// The first buddy begins at the front of the page, and the last one ends at its back.
#[test]
fn buddies_are_justified_to_both_ends() {
    let (pool, _) = pool(PAGE);
    let (first, last) = (put(&*pool, 1000), put(&*pool, 65));
    let (page, at) = place(&*pool, &first);
    assert_eq!(at, 0);
    assert_eq!(place(&*pool, &last), (page, PAGE - 2 * CHUNK));
    // If either is freed, the other one stays where it is, and the hole is all the rest.
    pool.free(first).unwrap();
    let long = put(&*pool, PAGE - 2 * CHUNK);
    assert_eq!((place(&*pool, &long), place(&*pool, &last)), ((page, 0), (page, PAGE - 2 * CHUNK)));
    pool.free(last).unwrap();
    assert_eq!(place(&*pool, &put(&*pool, 2 * CHUNK)), (page, PAGE - 2 * CHUNK));
}

/// An object goes into the smallest hole that is enough.
#[test]
fn smallest_sufficient_hole_taken() {
    let (pool, source) = pool(PAGE);
    // Objects of over half a page, each alone in its page, leave holes of 1 to 31 chunks.
    let alone: Vec<_> = (1..32).map(|hole| (hole, put(&*pool, PAGE - hole * CHUNK))).collect();
    for (hole, big) in alone.iter().rev() {
        let fits = put(&*pool, (hole - 1) * CHUNK + 1);
        assert_eq!(place(&*pool, &fits).0, place(&*pool, big).0, "the hole of {hole} chunks");
        pool.free(fits).unwrap();
    }
    // With the hole of 20 chunks taken, the next larger one is used.
    let taken = put(&*pool, 20 * CHUNK);
    let next = put(&*pool, 20 * CHUNK);
    assert_eq!(place(&*pool, &taken).0, place(&*pool, &alone[19].1).0);
    assert_eq!(place(&*pool, &next).0, place(&*pool, &alone[20].1).0);
    assert_eq!(source.charged_frames(), alone.len());
    // If no hole is enough, a new page is used.
    let new = put(&*pool, 32 * CHUNK);
    assert_eq!(source.charged_frames(), alone.len() + 1);
    drop(new);
}

/// Of equal holes, the newest is taken.
#[test]
fn newest_of_equal_holes_is_taken() {
    let (pool, _) = pool(PAGE);
    let alone: Vec<_> = (0..5).map(|_| put(&*pool, 40 * CHUNK)).collect();
    for big in alone.iter().rev() {
        assert_eq!(place(&*pool, &put(&*pool, 20 * CHUNK)).0, place(&*pool, big).0);
    }
}

/// A page of several frames charges only those that are written.
#[test]
fn page_charges_only_written_frames() {
    let source = Arc::new(HeapSource::new(4096));
    let mut config = PoolConfig::new(source.clone(), 16 << 10);
    config.params.set("page", "16384");
    let pool = ZbudDriver.create(&config).unwrap();
    let first = put(&*pool, 1);
    assert_eq!(source.charged_frames(), 1);
    let last = put(&*pool, 5000);
    assert_eq!(source.charged_frames(), 3);
    pool.free(last).unwrap();
    // Still resident, until a trim leaves only the frames under the first buddy.
    assert_eq!(source.charged_frames(), 3);
    assert_eq!((pool.trim(), source.charged_frames()), (2 * 4096, 1));
    // 15 of 16 KiB fill the hole: three whole frames, and a shared one.
    let last = put(&*pool, 15 << 10);
    assert_eq!(source.charged_frames(), 4);
    pool.validate().unwrap();
    pool.free(first).unwrap();
    assert_eq!((pool.trim(), source.charged_frames()), (0, 4));
    pool.free(last).unwrap();
    assert_eq!((pool.trim(), source.charged_frames()), (4 * 4096, 0));
}

/// Tables take some 50 bytes per page, and are counted.
#[test]
fn tables_take_50_bytes_per_page() {
    let (pool, source) = pool(PAGE);
    let alone = pool.stats().metadata_bytes;
    let handles: Vec<_> = (0..6400).map(|_| put(&*pool, PAGE)).collect();
    let tables = pool.stats().metadata_bytes - alone;
    let pages = source.charged_frames();
    println!("{} bytes per page", tables / pages);
    assert_eq!(pages, handles.len());
    assert!((40 * pages..60 * pages).contains(&tables), "{tables} bytes for {pages} pages");
    assert_eq!(pool.bytes_held(), pages * PAGE + alone + tables);
}

/// The statistics have a group for pages with 0, 1 and 2 objects.
#[test]
fn groups_describe_their_pages() {
    let source = Arc::new(HeapSource::new(4096));
    let mut config = PoolConfig::new(source.clone(), PAGE);
    config.params.set("page", "16384");
    let pool = ZbudDriver.create(&config).unwrap();
    let mut handles: Vec<_> = (0..5).map(|_| put(&*pool, 100)).collect();
    let groups = pool.stats().groups;
    let of = |group: &GroupStats| {
        (group.frames_per_page, group.slots_per_page, group.pages, group.objects)
    };
    let said: Vec<_> = groups.iter().map(of).collect();
    assert_eq!(
        said,
        [(4, 2, 0, 0), (4, 2, 1, 1), (4, 2, 2, 4)],
        "pages with no object, with one, with two"
    );
    drop(handles.drain(..).map(|handle| pool.free(handle).unwrap()).collect::<Vec<_>>());
    let gone: Vec<_> =
        pool.stats().groups.iter().map(|g| (g.reclaimable_bytes, g.pages_by_fullness[0])).collect();
    assert_eq!(
        gone,
        [(source.charged_bytes(), 3), (0, 0), (0, 0)],
        "all pages are empty, and can go back"
    );
}

#[test]
fn each_refused_insert_is_counted_once() {
    let source = Arc::new(FaultySource::new(Arc::new(HeapSource::new(PAGE)), FaultPlan::From(0)));
    let pool = ZbudDriver.create(&PoolConfig::new(source.clone(), PAGE)).unwrap();
    // First the reservation is refused, then the charge.
    for (refused, plan) in
        [(1, FaultPlan::From(0)), (2, FaultPlan::From(1)), (3, FaultPlan::From(0))]
    {
        source.plan(plan);
        assert!(pool.insert(&[1]).is_err());
        assert_eq!(pool.stats().failed_inserts, refused);
    }
    source.plan(FaultPlan::Never);
    let _handle = put(&*pool, 1);
    assert_eq!(pool.stats().failed_inserts, 3);
}

/// If a frame is larger than the page size, a page is a frame.
#[test]
fn frame_larger_than_page_is_the_page() {
    let source = Arc::new(HeapSource::new(16 << 10));
    let pool = ZbudDriver.create(&PoolConfig::new(source.clone(), PAGE)).unwrap();
    let handles: Vec<_> = (0..10).map(|_| put(&*pool, PAGE)).collect();
    assert_eq!((handles.len(), source.charged_frames()), (10, 5));
    assert_eq!(pool.capabilities().objects_per_page, Some(2));
}

#[test]
fn parameters_are_checked_and_kept() {
    let source: Arc<dyn PageSource> = Arc::new(HeapSource::new(4096));
    let create = |name: &str, value: &str, max: usize| {
        let mut config = PoolConfig::new(source.clone(), max);
        config.params.set(name, value);
        (ZbudDriver.create(&config).err(), ZbudDriver.canonical(&config.params))
    };
    for page in ["0", "4095", "5000", "524288", "-1", "4k", "99999999999999999999"] {
        let (error, canonical) = create("page", page, 4096);
        let Some(CreateError::BadValue { name, value, .. }) = &error else {
            panic!("{page}: {error:?}")
        };
        assert_eq!((name.as_str(), value.as_str()), ("page", page));
        assert_eq!(canonical.err(), error);
    }
    assert!(matches!(create("pages", "4096", 4096).0, Some(CreateError::UnknownParameter { .. })));
    assert!(matches!(create("page", "4096", 4097).0, Some(CreateError::BadValue { .. })));
    assert_eq!(create("page", "8192", 4097).0, None);
    let (_, canonical) = create("page", "08192", 1);
    assert_eq!(canonical.unwrap().get("page"), Some("8192"));
    assert_eq!(ZbudDriver.canonical(&Params::default()), Ok(Params::default()));
    for max in [0, (256 << 10) + 1, usize::MAX] {
        let config = PoolConfig::new(source.clone(), max);
        assert!(
            matches!(ZbudDriver.create(&config), Err(CreateError::BadValue { .. })),
            "objects of {max} bytes"
        );
        assert!(ZbudDriver.capabilities(&config).is_err());
    }
}
