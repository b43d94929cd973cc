//! Entries that change while a listener that decides about evictions looks at them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::common::{Look, SPECS, block, check_books, spec, stamped, unstamp};
use crate::eviction_decisions::{KEY, evicting};
use zswap::drain::DrainBudget;
use zswap::{Error, EvictionCandidate, EvictionDecision, Store};

const LEN: usize = 1500;

type Meeting = fn(&Store<u64>);

/// A store with one entry in version 1, whose listener lets everything go. It does `meet` at its
/// first call, on another thread if wanted.
struct Rig {
    store: Store<u64>,
    shown: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Rig {
    fn new(text: &str, len: usize, meet: Meeting, on_other_thread: bool) -> Rig {
        let itself: Arc<OnceLock<Store<u64>>> = Arc::default();
        let shown: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (again, noted) = (itself.clone(), shown.clone());
        let listener = move |_: &u64, candidate: &EvictionCandidate<'_>| {
            let store = again.get().expect("set before anything is stored");
            let before = candidate.decode_vec().unwrap();
            noted.lock().unwrap().push(before.clone());
            // What came meanwhile is kept.
            if noted.lock().unwrap().len() > 1 {
                return EvictionDecision::Keep;
            }
            // So that there is room for what comes.
            store.set_limit(None).unwrap();
            match on_other_thread {
                true => std::thread::scope(|scope| scope.spawn(|| meet(store)).join().unwrap()),
                false => meet(store),
            }
            // What was lent stays as it was.
            assert_eq!(candidate.decode_vec().unwrap(), before);
            EvictionDecision::Evict
        };
        let store = evicting(text, usize::MAX)
            .max_value_len(1 << 16)
            .on_evict_with(listener)
            .build()
            .unwrap();
        itself.set(store.clone()).unwrap();
        store.store(KEY, stamped(KEY, 1, len)).unwrap();
        Rig { store, shown }
    }

    /// Evicts. Returns the versions that were shown, and the one that is left.
    fn run(self) -> (Vec<u64>, Option<u64>) {
        self.store.set_limit(Some(1)).unwrap();
        let left = self.store.load_vec(&KEY).unwrap().map(|bytes| unstamp(&bytes).1);
        check_books(&self.store);
        assert_eq!(self.store.stats().listeners_panicked, 0);
        let shown = self.shown.lock().unwrap().iter().map(|bytes| unstamp(bytes).1).collect();
        // The listener has the store: without this it would keep itself alive.
        self.store.clear();
        let _ = self.store.manager().flush();
        assert_eq!(self.store.stats().payload_bytes, 0);
        (shown, left)
    }
}

/// An entry that is replaced while it is shown stays, in its newest version.
/// Objects of one length would be exchanged in place if nothing pinned the older one.
#[test]
fn replaced_while_shown_newer_one_stays() {
    let replacements: [Meeting; 4] = [
        |store| (2..=9).for_each(|v| store.store(KEY, stamped(KEY, v, LEN)).unwrap()),
        |store| store.store(KEY, stamped(KEY, 9, 20_000)).unwrap(),
        |store| {
            assert_eq!(unstamp(&store.take_vec(&KEY).unwrap().unwrap()), (KEY, 1));
            (2..=9).for_each(|v| store.store(KEY, stamped(KEY, v, LEN)).unwrap());
        },
        |store| {
            assert!(store.invalidate(&KEY));
            store.store_if(KEY, stamped(KEY, 9, LEN), |_, _| true).unwrap();
        },
    ];
    for text in SPECS {
        for (n, meet) in replacements.into_iter().enumerate() {
            for (len, other) in [(LEN, false), (LEN, true), (20_000, false)] {
                let (shown, left) = Rig::new(text, len, meet, other).run();
                assert_eq!((shown[0], left), (1, Some(9)), "{text}, {n}, {len}");
                // Each replacement has warmed it, so the search may end before it is cold again.
                assert!(shown[1..].iter().all(|version| *version == 9), "{shown:?}");
            }
        }
    }
}

/// A same-filled entry that is replaced while it is shown stays as well.
#[test]
fn same_filled_replaced_while_shown_stays() {
    for newer in [vec![8; 64], block(1, 64, Look::Noise), vec![7; 63]] {
        let itself: Arc<OnceLock<Store<u64>>> = Arc::default();
        let (again, shown, replacement) = (itself.clone(), AtomicUsize::new(0), newer.clone());
        let store = evicting("zsmalloc+lz4", usize::MAX)
            .on_evict_with(move |_, _| match shown.fetch_add(1, Ordering::Relaxed) {
                0 => {
                    let store = again.get().unwrap();
                    store.set_limit(None).unwrap();
                    store.store(KEY, &replacement).unwrap();
                    EvictionDecision::Evict
                }
                _ => EvictionDecision::Keep,
            })
            .build()
            .unwrap();
        itself.set(store.clone()).unwrap();
        store.store(KEY, [7; 64]).unwrap();
        store.set_limit(Some(1)).unwrap();
        assert_eq!((store.load_vec(&KEY).unwrap(), store.stats().evicted), (Some(newer), 0));
    }
}

/// An entry that is removed while it is shown stays gone. It is not counted as evicted, and the
/// memory that it leaves counts as room.
#[test]
fn removed_while_shown_stays_gone() {
    let removals: [Meeting; 4] = [
        |store| assert!(store.invalidate(&KEY)),
        |store| assert_eq!(unstamp(&store.take_vec(&KEY).unwrap().unwrap()), (KEY, 1)),
        Store::clear,
        |store| assert_eq!(store.retain(|_, _| false), 1),
    ];
    for meet in removals {
        for (len, other) in [(LEN, false), (LEN, true), (20_000, true)] {
            let rig = Rig::new("zsmalloc+lz4", len, meet, other);
            let store = rig.store.clone();
            assert_eq!(rig.run(), (vec![1], None));
            assert_eq!((store.stats().evicted, store.len()), (0, 0));
        }
    }
}

/// While a key is shown, no other thread is shown it, in whatever version. A thread that finds
/// nothing else waits for a while, and then has no room.
#[test]
fn key_is_shown_to_one_thread_at_a_time() {
    let evict: Meeting = |store| {
        store.store(KEY, stamped(KEY, 2, LEN)).unwrap();
        let error = store.set_limit(Some(1)).unwrap_err();
        assert!(matches!(error, Error::Full { kept: 0, .. }), "{error}");
        store.set_limit(None).unwrap();
    };
    assert_eq!(Rig::new("zsmalloc+lz4", LEN, evict, true).run(), (vec![1, 2], Some(2)));
}

/// An entry that moves to another pool while it is shown stays, because it is not the one that was
/// pinned, and is shown again.
#[test]
fn moved_while_shown_is_shown_again() {
    let drain: Meeting = |store| {
        store.switch(&spec("zsmalloc(chain=4)+rle")).unwrap();
        assert_eq!(store.drain(DrainBudget::UNLIMITED).moved, 1);
    };
    for len in [LEN, 20_000] {
        assert_eq!(Rig::new("zsmalloc+lz4", len, drain, false).run(), (vec![1, 1], Some(1)));
    }
}
