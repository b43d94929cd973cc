//! The pool against a map of vectors: random operations, with statistics and every structure
//! checked after each.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use zpool_core::exec::Manual;
use zpool_core::page::{FaultPlan, FaultySource, HeapSource, PageSource};
use zpool_core::spec::Component;
use zpool_core::{CompactionBudget, Handle, PoolConfig, PoolError, ReadGuard, ZPool, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

#[derive(Debug, Clone)]
enum Op {
    Insert(usize),
    Free(usize),
    Hold(usize),
    Drop(usize),
    Compact(usize),
    Trim,
    RunJobs,
    /// The source fails from this call on, until the next such operation.
    Fault(Option<u64>),
}

fn op(max: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (1..=max).prop_map(Op::Insert),
        // Few lengths, so that classes are shared and zspages fill.
        20 => (0..8usize).prop_map(move |i| Op::Insert((i * 97 + 250).min(max))),
        25 => any::<usize>().prop_map(Op::Free),
        6 => any::<usize>().prop_map(Op::Hold),
        6 => any::<usize>().prop_map(Op::Drop),
        3 => (0..40usize).prop_map(Op::Compact),
        1 => Just(Op::Compact(usize::MAX)),
        1 => Just(Op::Trim),
        2 => Just(Op::RunJobs),
        2 => proptest::option::of(0..3u64).prop_map(Op::Fault),
    ]
}

struct Model<'a> {
    pool: &'a dyn ZPool,
    source: &'a FaultySource,
    live: BTreeMap<u64, (Handle, Vec<u8>)>,
    held: Vec<(ReadGuard<'a>, Vec<u8>)>,
    next: u64,
}

impl Model<'_> {
    fn nth(&self, n: usize) -> Option<u64> {
        let keys: Vec<_> = self.live.keys().copied().collect();
        (!keys.is_empty()).then(|| keys[n % keys.len()])
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Insert(len) => {
                let bytes: Vec<u8> =
                    (0..len).map(|i| (self.next as usize * 31 + i * 7) as u8).collect();
                let objects = self.pool.stats().objects;
                match self.pool.insert(&bytes) {
                    Ok(handle) => {
                        self.live.insert(self.next, (handle, bytes));
                    }
                    Err(error) => {
                        assert_eq!(error, PoolError::OutOfMemory);
                        assert_eq!(self.pool.stats().objects, objects);
                    }
                }
                self.next += 1;
            }
            Op::Free(n) => {
                let Some(key) = self.nth(n) else { return };
                let (handle, _) = self.live.remove(&key).unwrap();
                let twin = handle.id().forge();
                self.pool.free(handle).unwrap();
                assert_eq!(self.pool.read(&twin).unwrap_err(), PoolError::StaleHandle);
                assert_eq!(*self.pool.free(twin).unwrap_err().error(), PoolError::StaleHandle);
            }
            Op::Hold(n) => {
                let Some(key) = self.nth(n) else { return };
                let (handle, bytes) = &self.live[&key];
                self.held.push((self.pool.read(handle).unwrap(), bytes.clone()));
            }
            Op::Drop(n) if !self.held.is_empty() => {
                drop(self.held.swap_remove(n % self.held.len()))
            }
            Op::Compact(moves) => {
                let report = self.pool.compact(CompactionBudget::moves(moves));
                assert!(report.moved_objects <= moves);
            }
            Op::Trim => drop(self.pool.trim()),
            Op::Fault(from) => self.source.plan(from.map_or(FaultPlan::Never, FaultPlan::From)),
            Op::Drop(_) | Op::RunJobs => {}
        }
    }

    fn check(&self) {
        self.pool.validate().unwrap();
        for (guard, bytes) in &self.held {
            assert_eq!(&**guard, &bytes[..]);
        }
        let stats = self.pool.stats();
        assert_eq!(stats.objects, self.live.len());
        assert_eq!(stats.pool_bytes(), self.pool.bytes_held());
        assert_eq!(stats.resident_frames, self.source.charged_frames());
        if self.held.is_empty() {
            assert_eq!(stats.zombies, 0);
            assert_eq!(
                stats.payload_bytes,
                self.live.values().map(|(_, bytes)| bytes.len()).sum::<usize>()
            );
        }
    }
}

fn run(frame: usize, max: usize, params: &str, ops: &[Op]) {
    let source = Arc::new(FaultySource::new(Arc::new(HeapSource::new(frame)), FaultPlan::Never));
    let executor = Arc::new(Manual::new());
    let spec: Component = format!("z({params})").parse().unwrap();
    let config = PoolConfig::new(source.clone(), max)
        .with_params(spec.params)
        .with_executor(executor.clone());
    let pool = ZsmallocDriver.create(&config).unwrap();
    let mut model =
        Model { pool: &*pool, source: &source, live: BTreeMap::new(), held: vec![], next: 0 };
    for op in ops {
        model.apply(op);
        if matches!(op, Op::RunJobs) {
            executor.run_all();
        }
        model.check();
    }
    source.plan(FaultPlan::Never);
    for (handle, bytes) in model.live.values() {
        assert_eq!(&*pool.read(handle).unwrap(), &bytes[..]);
    }
    model.held.clear();
    for (handle, _) in std::mem::take(&mut model.live).into_values() {
        pool.free(handle).unwrap();
    }
    model.check();
    pool.trim();
    model.check();
    assert_eq!(source.charged_frames(), 0);
    drop(model);
    drop(pool);
    executor.run_all();
    assert_eq!(executor.jobs_panicked(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn agrees_with_the_model(ops in proptest::collection::vec(op(4096), 1..200)) {
        run(4096, 4096, "chain=32", &ops);
    }

    /// With zspages of one frame.
    #[test]
    fn single_frames_agree_with_model(ops in proptest::collection::vec(op(700), 1..200)) {
        run(4096, 700, "chain=1,step=256", &ops);
    }

    /// With frames of 16 KiB.
    #[test]
    fn large_frames_agree_with_model(ops in proptest::collection::vec(op(20_000), 1..120)) {
        run(16_384, 20_000, "chain=4,step=64", &ops);
    }
}
