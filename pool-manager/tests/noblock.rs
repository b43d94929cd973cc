//! The release path does not block. The check policy and its counters belong to the process, so
//! this is a test program of its own.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::*;
use zpool_core::exec::Manual;
use zpool_core::{CheckPolicy, NoBlock, set_check_policy, violations};

/// I1: wherever the last reference is dropped, the executor destroys the pool.
#[test]
fn i1_last_reference_hands_pool_to_executor() {
    set_check_policy(CheckPolicy::Panic);
    let (script, manual) = (Script::new(), Arc::new(Manual::new()));
    let manager =
        builder(&script).executor(manual.clone()).max_pending(100).build(&spec("a+x")).unwrap();
    let drops: [fn(Stored); 3] = [
        |last| {
            let _section = NoBlock::enter();
            last.free();
        },
        |last| std::thread::spawn(move || last.free()).join().unwrap(),
        |last| {
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _section = NoBlock::enter();
                let _last = last.pool;
                std::panic::resume_unwind(Box::new("unwinds"));
            }));
            assert!(unwound.is_err());
        },
    ];
    for (i, drop_last) in drops.into_iter().enumerate() {
        let last = store(&manager, b"the last object of its pool");
        manager.switch(&spec(if i % 2 == 0 { "b+x" } else { "a+x" })).unwrap();
        // The job that frees the contexts of a pool that is now only read.
        assert_eq!(manual.run_all(), 1);
        let before = script.destroyed.load(Ordering::SeqCst);
        drop_last(last);
        assert_eq!(script.destroyed.load(Ordering::SeqCst), before, "case {i}: not by the caller");
        assert_eq!(manual.run_all(), 1, "case {i}: by the executor");
        assert_eq!(script.destroyed.load(Ordering::SeqCst), before + 1);
    }
    assert_eq!((manager.stats().destroyed_on_caller, violations()), (0, 0));
}
