//! The faulty backing store does what a test injects, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use zpool_core::backing::{BackingCapabilities, BackingError, BackingStore, SegmentNumber};
use zpool_testing::backing::{BackingCall, BackingFault, FaultyBacking, FaultyCalls};

const SEGMENT: SegmentNumber = SegmentNumber::new(1);

fn faulty() -> FaultyBacking {
    FaultyBacking::in_memory(BackingCapabilities::new(64, 2).unwrap())
}

fn read(store: &FaultyBacking) -> Result<[u8; 64], BackingError> {
    let mut bytes = [0; 64];
    store.read(SEGMENT, 0, &mut bytes).map(|()| bytes)
}

/// Faults meet the numbered calls and no others.
#[test]
fn faults_meet_chosen_calls() {
    let store = faulty();
    store.write(SEGMENT, &[7; 64]).unwrap();
    store.inject(BackingCall::Read, FaultyCalls::Numbered(1..2), BackingFault::Failed);
    assert!(read(&store).is_ok() && read(&store).is_err() && read(&store).is_ok());
    store.inject(BackingCall::Read, FaultyCalls::EveryNth(2), BackingFault::Failed);
    let outcomes: Vec<bool> = (0..4).map(|_| read(&store).is_ok()).collect();
    assert_eq!(outcomes, [true, false, true, false]);
    store.clear_faults();
    assert!(read(&store).is_ok());
    assert_eq!((store.faults(), store.calls(BackingCall::Read)), (3, 8));
}

/// A torn write leaves its first half; one that fails or is full leaves the older contents.
#[test]
fn failed_writes_leave_what_they_say() {
    let store = faulty();
    store.write(SEGMENT, &[7; 64]).unwrap();
    for fault in [BackingFault::Failed, BackingFault::Full] {
        store.inject(BackingCall::Write, FaultyCalls::Numbered(0..1), fault);
        assert!(store.write(SEGMENT, &[8; 64]).is_err());
        assert_eq!(read(&store).unwrap(), [7; 64]);
    }
    store.inject(BackingCall::Write, FaultyCalls::Numbered(0..1), BackingFault::Torn);
    assert!(matches!(store.write(SEGMENT, &[8; 64]), Err(BackingError::Full)));
    let mut half = [0; 32];
    store.read(SEGMENT, 0, &mut half).unwrap();
    assert_eq!((half, read(&store).is_err()), ([8; 32], true));
}

/// One bit differs, in what is read or in what stays written.
#[test]
fn flipped_bit_is_one_bit() {
    let store = faulty();
    let ones = |bytes: [u8; 64]| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
    store.write(SEGMENT, &[0; 64]).unwrap();
    store.inject(BackingCall::Read, FaultyCalls::Numbered(0..1), BackingFault::FlippedBit);
    assert_eq!([ones(read(&store).unwrap()), ones(read(&store).unwrap())], [1, 0]);
    store.inject(BackingCall::Write, FaultyCalls::Numbered(0..1), BackingFault::FlippedBit);
    store.write(SEGMENT, &[0; 64]).unwrap();
    assert_eq!([ones(read(&store).unwrap()), ones(read(&store).unwrap())], [1, 1]);
}

/// A lost segment stays gone until it is written, whether a read or a write lost it.
#[test]
fn gone_segments_stay_gone() {
    let store = faulty();
    for call in [BackingCall::Read, BackingCall::Write] {
        store.inject(call, FaultyCalls::Numbered(0..1), BackingFault::Gone);
        store.write(SEGMENT, &[7; 64]).unwrap();
        assert!(matches!(read(&store), Err(BackingError::Gone)));
        assert!(matches!(read(&store), Err(BackingError::Gone)));
        store.clear_faults();
        store.write(SEGMENT, &[7; 64]).unwrap();
        assert_eq!(read(&store).unwrap(), [7; 64]);
    }
}

/// A stalled call waits for the test, and then does its work. A panic changes nothing.
#[test]
fn stalls_end_and_panics_change_nothing() {
    let store = faulty();
    store.inject(BackingCall::Write, FaultyCalls::Numbered(0..1), BackingFault::Stalled);
    thread::scope(|scope| {
        let writer = scope.spawn(|| store.write(SEGMENT, &[7; 64]));
        store.wait_until_stalled(1);
        assert!(matches!(read(&store), Err(BackingError::Gone)));
        store.release();
        writer.join().unwrap().unwrap();
    });
    assert_eq!(read(&store).unwrap(), [7; 64]);
    store.inject(BackingCall::Write, FaultyCalls::Numbered(0..1), BackingFault::Panics);
    let write = || store.write(SEGMENT, &[8; 64]);
    assert!(catch_unwind(AssertUnwindSafe(write)).is_err());
    assert_eq!(read(&store).unwrap(), [7; 64]);
}
