//! A store above a hostile backing store, whose reads return what the input says.

use std::sync::{Arc, LazyLock, Mutex};

use zswap::plugin::{BackingCapabilities, BackingError, BackingStore, Manual, SegmentNumber};
use zswap::tier::Residence;
use zswap::{AtLimit, Error, Store};

const SEGMENT: usize = 32 << 10;
const SEGMENTS: u32 = 6;

/// Blocks that are stored, more than fit.
const KEYS: u64 = 600;

/// Made once, because each input needs all of them several times.
static BLOCKS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..KEYS).map(block).collect());

/// Keeps segments in memory, and changes what is read as the input says.
#[derive(Debug)]
struct HostileTier {
    segments: Mutex<Vec<Vec<u8>>>,
    /// The input, and how much of it was used.
    input: Mutex<(Vec<u8>, usize)>,
}

impl HostileTier {
    /// Returns the next bytes of the input; zeros at its end.
    fn next<const N: usize>(&self) -> [u8; N] {
        let mut input = self.input.lock().unwrap();
        let (bytes, used) = &mut *input;
        let mut next = [0; N];
        for byte in &mut next {
            *byte = bytes.get(*used).copied().unwrap_or(0);
            *used += 1;
        }
        next
    }
}

impl BackingStore for HostileTier {
    fn capabilities(&self) -> BackingCapabilities {
        BackingCapabilities::new(SEGMENT, SEGMENTS).unwrap()
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        let [how] = self.next();
        if how % 16 == 1 {
            return Err(BackingError::Full);
        }
        self.segments.lock().unwrap()[segment.get() as usize] = bytes.to_vec();
        Ok(())
    }

    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        let segments = self.segments.lock().unwrap();
        let [how, low, high, value] = self.next();
        // Of another segment, or from another offset.
        let from = match how % 8 {
            1 => (segment.get() as usize + 1) % SEGMENTS as usize,
            _ => segment.get() as usize,
        };
        let offset = if how % 8 == 2 { offset ^ 16 } else { offset };
        let bytes = segments[from].get(offset..).unwrap_or_default();
        let len = into.len().min(bytes.len());
        into[..len].copy_from_slice(&bytes[..len]);
        into[len..].fill(value);
        let at = usize::from(u16::from_le_bytes([low, high])) % into.len();
        match how % 8 {
            3 => into[at] ^= value | 1,
            4 => into[at..].fill(value),
            5 => into[..at].fill(value),
            6 => return Err(BackingError::Gone),
            7 => return Err(BackingError::failed("as the input says")),
            _ => {}
        }
        Ok(())
    }

    fn discard(&self, _: SegmentNumber) -> Result<(), BackingError> {
        Ok(())
    }
}

/// The block of a key: half of it shrinks.
fn block(key: u64) -> Vec<u8> {
    let mut state = key | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(key);
        (state >> 56) as u8
    };
    (0..2048).map(|at| if at % 2 == 0 { next() } else { key as u8 }).collect()
}

/// Stores more than fits, and loads it through hostile reads: each load returns the right block,
/// nothing, or an error. Returns how many records were read.
pub fn on_tier(input: &[u8]) -> u64 {
    let tier = HostileTier {
        segments: Mutex::new(vec![Vec::new(); SEGMENTS as usize]),
        input: Mutex::new((input.to_vec(), 0)),
    };
    let store = Store::<u64>::builder()
        .executor(Arc::new(Manual::new()))
        .limit_bytes(512 << 10)
        .at_limit(AtLimit::Evict)
        .tier(Arc::new(tier))
        .build()
        .unwrap();
    for (key, block) in (0..).zip(&*BLOCKS) {
        // Never fails because of the tier: a store that cannot write to it evicts.
        store.store(key, block).unwrap();
        let older = key / 2;
        check(&store, older);
    }
    (0..KEYS).for_each(|key| check(&store, key));
    let backed = store.keys().filter(|key| store.tier_of(key) == Some(Residence::Tier)).count();
    assert!(backed <= store.len());
    store.stats().tier.map_or(0, |tier| tier.reads)
}

fn check(store: &Store<u64>, key: u64) {
    match store.load_vec(&key) {
        Ok(Some(bytes)) => assert!(bytes == BLOCKS[key as usize], "key {key} has other bytes"),
        Ok(None) => assert!(!store.contains(&key)),
        Err(Error::TierFailed(_)) => assert!(store.contains(&key)),
        Err(error) => panic!("{error}"),
    }
}
