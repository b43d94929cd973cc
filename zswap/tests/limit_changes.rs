//! A limit that changes while threads store, and stores that evict from within other stores.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::common::{Constant, Look, block, builder, check_books, spec};
use proptest::prelude::*;
use zpool_core::CompactionBudget;
use zswap::plugin::Manual;
use zswap::{AtLimit, Error, Store};

const MIB: usize = 1 << 20;

/// Bytes that a store in flight may add beyond the limit, by `AtLimit`.
const IN_FLIGHT: usize = 256 << 10;

fn noise(key: u64, len: usize) -> Vec<u8> {
    block(key, len, Look::Noise)
}

/// After a limit is lowered from inside a listener, where `set_limit` itself evicts nothing, each
/// call evicts a bounded share in addition to what it adds, and after some calls the store is below
/// its new limit.
#[test]
fn lowered_limit_is_paid_in_shares() {
    let slot: Arc<OnceLock<Store<u64>>> = Arc::default();
    let (inside, lowered) = (slot.clone(), Arc::new(AtomicBool::new(false)));
    let lower = lowered.clone();
    let store = builder()
        .spec(spec("zsmalloc+lz4"))
        .limit_bytes(16 * MIB)
        .at_limit(AtLimit::Evict)
        .on_evict(move |_, _| {
            if !lower.swap(true, Ordering::SeqCst) {
                let store = inside.get().expect("set below");
                let error = store.set_limit(Some(4 * MIB)).unwrap_err();
                assert!(
                    matches!(error, Error::Full { limit, threshold, .. } if limit == threshold),
                    "{error}"
                );
            }
        })
        .build()
        .unwrap();
    slot.set(store.clone()).unwrap();
    let mut key = 0;
    while !lowered.load(Ordering::SeqCst) {
        store.store(key, noise(key, 4096)).unwrap();
        key += 1;
    }
    // 1/64 of 4 MiB, plus the cost of the last entry of the step, plus what the block itself adds.
    let share = 64 * 1024 + 2 * 4300;
    let mut stores = 0;
    while store.bytes_held() >= 4 * MIB {
        let before = store.stats();
        store.store(key, noise(key, 4096)).unwrap();
        let after = store.stats();
        let evicted = before.payload_bytes + 4096 - after.payload_bytes;
        assert!(evicted <= share, "{evicted} bytes by one store");
        (key, stores) = (key + 1, stores + 1);
        assert!(stores < 1000, "never below: {after}");
    }
    assert!(stores > 50, "{stores}: one of them did more than its share");
    check_books(&store);
}

/// `set_limit` makes room before it returns, while another thread stores.
#[test]
fn set_limit_converges_while_others_store() {
    let store = builder()
        .spec(spec("zsmalloc+lz4"))
        .limit_bytes(16 * MIB)
        .at_limit(AtLimit::Evict)
        .build()
        .unwrap();
    (0..5000).for_each(|key| store.store(key, noise(key, 4096)).unwrap());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (store, over) = (&store, &over);
        scope.spawn(move || {
            let mut key = 1 << 32;
            while !over.load(Ordering::SeqCst) {
                store.store(key, noise(key, 4096)).unwrap();
                key += 1;
            }
        });
        for limit in [8, 4, 12, 2, 1] {
            store.set_limit(Some(limit * MIB)).unwrap();
            let held = store.bytes_held();
            assert!(held < limit * MIB + 2 * IN_FLIGHT, "{held} held under {limit} MiB");
        }
        over.store(true, Ordering::SeqCst);
    });
    check_books(&store);
}

/// In a chain of twenty stores, each stores into the next what it evicts.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long; CI runs it optimized")]
fn long_chain_of_tiers_evicts_in_each() {
    let mut next: Option<Store<u64>> = None;
    let failed = Arc::new(AtomicUsize::new(0));
    let mut tiers = Vec::new();
    for _ in 0..20 {
        let (behind, failed) = (next.clone(), failed.clone());
        let tier = Store::builder()
            .limit_bytes(400 << 10)
            .at_limit(AtLimit::Evict)
            .executor(Arc::new(Manual::new()))
            .on_evict(move |key, _| {
                let stored =
                    behind.as_ref().map_or(Ok(()), |behind| behind.store(*key, noise(*key, 4096)));
                failed.fetch_add(usize::from(stored.is_err()), Ordering::SeqCst);
            })
            .build()
            .unwrap();
        tiers.push(tier.clone());
        next = Some(tier);
    }
    let front = next.unwrap();
    (0..3000).for_each(|key| front.store(key, noise(key, 4096)).unwrap());
    assert_eq!(failed.load(Ordering::SeqCst), 0);
    for (n, tier) in tiers.iter().enumerate() {
        assert!(
            tier.bytes_held() < (400 << 10) + IN_FLIGHT && tier.stats().evicted > 0,
            "tier {n}"
        );
    }
}

/// A value that could not be kept even if it were alone evicts nothing, whether it is shorter or
/// longer than the limit.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long; CI runs it optimized")]
fn value_fits_or_evicts_nothing() {
    for (text, limit) in [("zsmalloc+lz4", 4 * MIB), ("zbud+lz4", 2 * MIB)] {
        let store = builder()
            .spec(spec(text))
            .limit_bytes(limit)
            .at_limit(AtLimit::Evict)
            .max_value_len(16 * MIB)
            .build()
            .unwrap();
        // From what surely fits to what surely does not, densely around the limit.
        for part in (70..96).step_by(5).chain(96..=104) {
            for look in [Look::Noise, Look::Runs] {
                store.clear();
                (0..150).for_each(|key| store.store(key, noise(key, 4096)).unwrap());
                let before = (store.len(), store.stats().evicted);
                let value = block(part, limit / 100 * part as usize, look);
                match store.store(1 << 40, &value) {
                    Ok(()) => {
                        assert!(
                            store
                                .load_vec(&(1 << 40))
                                .unwrap()
                                .is_some_and(|loaded| loaded == value)
                        )
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Full { .. }), "{error}");
                        assert_eq!(
                            (store.len(), store.stats().evicted),
                            before,
                            "{text}: {part} % {look:?}"
                        );
                    }
                }
                assert!(
                    part > 90 || look == Look::Runs || store.contains(&(1 << 40)),
                    "{text}: {part} % fit"
                );
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Store { key: u64, len: usize, look: Look },
    Remove { key: u64 },
    SetLimit { kib: usize },
    Clear,
    GiveBack { compact: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let look = prop_oneof![Just(Look::Noise), Just(Look::Runs), Just(Look::SameFilled)];
    prop_oneof![
        30 => (0..400u64, 1..4096usize, look)
            .prop_map(|(key, len, look)| Step::Store { key, len, look }),
        6 => (0..400u64).prop_map(|key| Step::Remove { key }),
        2 => (300..2000usize).prop_map(|kib| Step::SetLimit { kib }),
        1 => Just(Step::Clear),
        1 => any::<bool>().prop_map(|compact| Step::GiveBack { compact }),
    ]
}

/// Runs two threads over one shard or all of them, with limits that change and a listener that
/// stores. Checks that held bytes stay within the limit and the stated overshoot, and that no store
/// fails.
fn hold_the_limit<S: std::hash::BuildHasher + Clone + Send + Sync + 'static>(
    text: &str,
    hasher: S,
    steps: [Vec<Step>; 2],
) -> Result<(), TestCaseError> {
    let slot: Arc<OnceLock<Store<u64, S>>> = Arc::default();
    let behind = slot.clone();
    let most = AtomicUsize::new(2 * MIB);
    let store = builder()
        .spec(spec(text))
        .limit_bytes(2 * MIB)
        .at_limit(AtLimit::Evict)
        .on_evict(move |key, len| {
            // What cannot be stored without evicting is refused here.
            if key % 16 == 0 {
                let _ = behind.get().expect("set below").store(key + 1_000_000, noise(*key, len));
            }
        })
        .hasher(hasher)
        .build()
        .unwrap();
    prop_assert!(slot.set(store.clone()).is_ok());
    let failures = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (thread, steps) in steps.into_iter().enumerate() {
            let (store, most, failures) = (&store, &most, &failures);
            scope.spawn(move || {
                for step in steps {
                    match step {
                        Step::Store { key, len, look } => {
                            let stored =
                                store.store(key << 1 | thread as u64, block(key, len, look));
                            failures.fetch_add(usize::from(stored.is_err()), Ordering::SeqCst);
                        }
                        Step::Remove { key } => {
                            store.invalidate(&(key << 1 | thread as u64));
                        }
                        // One thread sets limits, so that the highest one at any moment is known.
                        Step::SetLimit { kib } if thread == 0 => {
                            most.fetch_max(kib << 10, Ordering::SeqCst);
                            let set = store.set_limit(Some(kib << 10));
                            failures.fetch_add(usize::from(set.is_err()), Ordering::SeqCst);
                            most.store(kib << 10, Ordering::SeqCst);
                        }
                        Step::SetLimit { .. } => {}
                        Step::Clear => store.clear(),
                        Step::GiveBack { compact: true } => {
                            store.compact(CompactionBudget::UNLIMITED);
                        }
                        Step::GiveBack { compact: false } => {
                            store.trim();
                        }
                    }
                }
            });
        }
    });
    let (held, limit) = (store.bytes_held(), most.into_inner());
    prop_assert!(held < limit + 2 * IN_FLIGHT, "{} held under {}", held, limit);
    prop_assert_eq!(failures.into_inner(), 0);
    check_books(&store);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn changing_limit_holds_and_no_store_fails(
        text in prop_oneof![Just("zsmalloc+lz4"), Just("zbud+lz4"), Just("reference+rle")],
        one_shard in any::<bool>(),
        first in prop::collection::vec(step(), 200..800),
        second in prop::collection::vec(step(), 200..800),
    ) {
        if one_shard {
            hold_the_limit(text, Constant, [first, second])?;
        } else {
            hold_the_limit(text, std::hash::RandomState::new(), [first, second])?;
        }
    }
}
