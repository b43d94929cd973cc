//! How far compaction charges ahead, and frames that the system does not take back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use zpool_core::exec::Manual;
use zpool_core::page::{HeapSource, ObservedSource, PageSource, SourceCall};
use zpool_core::spec::Component;
use zpool_core::{CompactionBudget, Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

#[allow(unsafe_code, reason = "a page source has to be one")]
#[path = "common/source.rs"]
mod source;
use source::Source;

fn pool(frame_size: usize, max: usize, spec: &str) -> (Box<dyn ZPool>, Arc<Source>) {
    let source = Arc::new(Source::new(frame_size, |work| work()));
    let spec: Component = spec.parse().expect("a spec");
    let config = PoolConfig::new(source.clone(), max).with_params(spec.params);
    (ZsmallocDriver.create(&config).expect("a pool"), source)
}

/// Frees blocks of `run` objects in turn, so that zspages have gaps of whole frames.
fn with_gaps(pool: &dyn ZPool, count: usize, len: usize, run: usize) -> Vec<Handle> {
    let handles: Vec<_> = (0..count).map(|i| pool.insert(&vec![i as u8; len]).unwrap()).collect();
    let (gone, kept): (Vec<_>, Vec<_>) =
        handles.into_iter().enumerate().partition(|(i, _)| (i / run).is_multiple_of(2));
    gone.into_iter().for_each(|(_, handle)| pool.free(handle).unwrap());
    kept.into_iter().map(|(_, handle)| handle).collect()
}

/// Compaction that fills gaps without frames releases frames as it goes. It never holds more than
/// 128 KiB beyond its start, or twice the frames that the longest object may lie in.
#[test]
fn compaction_charges_little_ahead() {
    for (frame, max, spec, len, run, bound) in [
        (4096, 4096, "zsmalloc", 3000, 8, 32),
        (4096, 4096, "zsmalloc", 100, 300, 32),
        (4096, 4096, "zsmalloc(chain=16)", 2100, 7, 32),
        (4096, 65_536, "zsmalloc(chain=64,step=64)", 20_000, 1, 34),
        (16_384, 4096, "zsmalloc", 1300, 40, 8),
        (65_536, 65_536, "zsmalloc", 9000, 14, 4),
    ] {
        let (pool, source) = pool(frame, max, spec);
        let kept = with_gaps(&*pool, (12 << 20) / len, len, run);
        pool.trim();
        let before = source.charged_frames();
        source.peak.store(0, Ordering::Relaxed);
        let report = pool.compact(CompactionBudget::UNLIMITED);
        let (after, peak) = (source.charged_frames(), source.peak.load(Ordering::Relaxed));
        assert!(
            peak > before && report.moved_objects > 0,
            "{spec}, {len}: {report:?} charged nothing"
        );
        assert!(
            peak - before <= bound,
            "{spec}, {len}: {} frames ahead, {bound} allowed",
            peak - before
        );
        let ideal = kept.len() * len / frame;
        assert!(
            after <= ideal + ideal / 8 + 70,
            "{spec}, {len}: {after} frames, {ideal} are payload"
        );
        assert_eq!(report.freed_bytes, (before - after) * frame, "{spec}, {len}");
        pool.validate().unwrap();
        assert!(kept.iter().all(|handle| pool.read(handle).unwrap().len() == len));
    }
}

/// Frames that the system does not take back stay resident and charged, and the next objects go
/// there first. Later calls release what the system takes then.
#[test]
fn retained_frames_are_used_first() {
    let (pool, source) = pool(4096, 4096, "zsmalloc");
    let mut kept = with_gaps(&*pool, 4000, 1000, 64);
    source.keeps.store(true, Ordering::Relaxed);
    let before = source.charged_frames();
    assert_eq!(pool.trim(), 0, "nothing was given back");
    assert_eq!((source.charged_frames(), pool.stats().resident_frames), (before, before));
    let report = pool.compact(CompactionBudget::UNLIMITED);
    assert!(report.freed_bytes <= (before - source.charged_frames()) * 4096, "{report:?}");
    pool.validate().unwrap();
    assert_eq!(pool.survey(), pool.stats());
    // As many as fit, and no frame is charged for them.
    let charges = source.charges.load(Ordering::Relaxed);
    let held = source.charged_frames();
    let room = pool.stats().fragmentation_bytes / 1008;
    kept.extend((0..room * 9 / 10).map(|_| pool.insert(&[3; 1000]).unwrap()));
    assert_eq!((source.charges.load(Ordering::Relaxed), source.charged_frames()), (charges, held));
    // Free half of them, and let the system take frames.
    source.keeps.store(false, Ordering::Relaxed);
    for handle in kept.drain(..1500) {
        pool.free(handle).unwrap();
    }
    pool.compact(CompactionBudget::UNLIMITED);
    assert!(source.charged_frames() < held * 3 / 4, "{} of {held}", source.charged_frames());
    kept.into_iter().for_each(|handle| pool.free(handle).unwrap());
    pool.trim();
    assert_eq!((source.charged_frames(), pool.stats().resident_frames), (0, 0));
}

/// A page source may use the pool that calls it. A trim from inside a discard leaves the zspages
/// alone whose frames are being discarded, and every frame is uncharged once.
#[test]
fn trim_inside_discard_uncharges_frames_once() {
    for compact in [false, true] {
        let stage: Arc<OnceLock<&'static dyn ZPool>> = Arc::default();
        let (pool_of_source, inside) = (stage.clone(), Arc::new(AtomicUsize::new(0)));
        let depth = inside.clone();
        let observe = move |call| {
            if let (SourceCall::Discard(_), Some(pool)) = (call, pool_of_source.get())
                && depth.fetch_add(1, Ordering::Relaxed) == 0
            {
                pool.trim();
                pool.validate().unwrap();
            }
        };
        let source = Arc::new(ObservedSource::new(Arc::new(HeapSource::new(4096)), observe));
        let config = PoolConfig::new(source.clone(), 4096);
        // The closure needs a pool that outlives the source: the memory of one test is leaked.
        let pool: &'static dyn ZPool = Box::leak(ZsmallocDriver.create(&config).unwrap());
        let kept = with_gaps(pool, 4000, 1000, 64);
        stage.set(pool).expect("set once");
        if compact {
            pool.compact(CompactionBudget::UNLIMITED);
        } else {
            pool.trim();
        }
        assert!(inside.load(Ordering::Relaxed) > 0, "compact: {compact}");
        assert_eq!(source.charged_frames(), pool.survey().resident_frames, "compact: {compact}");
        assert_eq!(pool.survey(), pool.stats());
        pool.validate().unwrap();
        kept.into_iter().for_each(|handle| pool.free(handle).unwrap());
        pool.trim();
        assert_eq!((source.charged_frames(), pool.stats().resident_frames), (0, 0));
    }
}

/// A pool whose frames the system keeps does not submit its job for ever.
#[test]
fn job_ends_when_all_is_retained() {
    for compact in ["auto", "off"] {
        let source = Arc::new(Source::new(4096, |work| work()));
        let executor = Arc::new(Manual::new());
        let spec: Component = format!("zsmalloc(compact={compact})").parse().unwrap();
        let config = PoolConfig::new(source.clone(), 4096)
            .with_params(spec.params)
            .with_executor(executor.clone());
        let pool = ZsmallocDriver.create(&config).unwrap();
        source.keeps.store(true, Ordering::Relaxed);
        let kept = with_gaps(&*pool, 8000, 1000, 64);
        let mut jobs = 0;
        while executor.run_one() {
            jobs += 1;
            assert!(jobs < 1000, "compact={compact}: the job submits itself for ever");
        }
        pool.validate().unwrap();
        assert_eq!(source.charged_frames(), pool.stats().resident_frames);
        kept.into_iter().for_each(|handle| pool.free(handle).unwrap());
    }
}
