//! Decodes bytes into actions, and runs these on a pool or a store.

use std::sync::Arc;

use zpool_conformance::action::{Action, from_text, run, to_text};
use zpool_conformance::pool::PoolModelRunner;
use zpool_core::exec::Manual;
use zpool_core::page::{FaultPlan, FaultySource, HeapSource};
use zpool_core::spec::PoolSpec;
use zpool_core::{PoolConfig, ZPoolDriver};
use zpool_lz4::Lz4Driver;
use zpool_zbud::ZbudDriver;
use zpool_zsmalloc::ZsmallocDriver;
use zpool_zstd::ZstdDriver;
use zswap::Store;

use crate::store::StoreModelRunner;

/// Specs that a store switches between. The last one is an error that changes nothing.
const SPECS: [&str; 6] = [
    "zbud+lz4",
    "zsmalloc+lz4",
    "zsmalloc+zstd",
    "zbud+zstd",
    "zsmalloc(chain=8)+lz4",
    "zbud+unknown",
];

/// Decodes the actions of an input, and a number that chooses the circumstances.
///
/// An action takes four bytes after the number, and bytes that remain are ignored. More than 500
/// actions would be slow and find no more. An input may also be a list in text form, so that a
/// target replays the failure of another program.
pub fn decode(input: &[u8]) -> Option<(u8, Vec<Action>)> {
    let text = core::str::from_utf8(input).ok().and_then(|text| from_text(text).ok());
    if let Some(actions) = text.filter(|actions| !actions.is_empty()) {
        return Some((1, actions));
    }
    let (&first, bytes) = input.split_first()?;
    Some((first, bytes.chunks_exact(4).take(500).map(decode_one).collect()))
}

fn decode_one(bytes: &[u8]) -> Action {
    let (kind, low, number) =
        (bytes[0], usize::from(bytes[1]), u16::from_le_bytes([bytes[2], bytes[3]]));
    let nth = usize::from(number);
    match kind % 29 {
        // Short ones, some of half a page, and of any length.
        0..=3 => Action::Insert { len: low % 64 + 1, fill: number.into() },
        4..=6 => Action::Insert { len: 1800 + low * 2, fill: number.into() },
        7..=10 => Action::Insert { len: nth % 4096 + 1, fill: low as u64 },
        11..=13 => Action::Read { nth },
        14..=15 => Action::Hold { nth },
        16..=17 => Action::Release { nth },
        18..=23 => Action::Free { nth },
        24 => Action::Exchange { nth, with: low },
        25 => Action::Compact { moves: if low < 128 { usize::MAX } else { nth % 20 } },
        26 => Action::Reclaim { pages: nth % 4 },
        27 => Action::Trim,
        _ => Action::Switch { spec: SPECS[nth % SPECS.len()].to_owned() },
    }
}

/// Runs the actions on a pool of this driver, over frames of 4 or 16 KiB.
///
/// # Panics
///
/// If the pool or the store deviates from its model.
pub fn on_pool(driver: &dyn ZPoolDriver, bytes: &[u8]) {
    let Some((first, actions)) = decode(bytes) else { return };
    let frame = if first % 4 == 0 { 16 << 10 } else { 4096 };
    let actions = print_if_requested(actions, &format!("--frame {frame}"));
    let source = Arc::new(FaultySource::new(Arc::new(HeapSource::new(frame)), FaultPlan::Never));
    let pool = driver.create(&PoolConfig::new(source.clone(), 4096)).expect("a pool");
    if let Err(error) = run(&actions, PoolModelRunner::new(&*pool, Some(&source))) {
        panic!("{error}\n{}", to_text(&actions));
    }
}

/// Runs the actions on a store.
///
/// # Panics
///
/// If the pool or the store deviates from its model.
pub fn on_store(bytes: &[u8]) {
    let Some((first, actions)) = decode(bytes) else { return };
    let spec = SPECS[usize::from(first) % (SPECS.len() - 1)];
    let actions = print_if_requested(actions, &format!("--store {spec}"));
    let spec: PoolSpec = spec.parse().expect("a spec");
    let executor = Arc::new(Manual::new());
    let store = Store::<u64>::builder()
        .spec(spec)
        .executor(executor.clone())
        .page_source(Arc::new(HeapSource::new(4096)))
        .allocator(Arc::new(ZbudDriver))
        .allocator(Arc::new(ZsmallocDriver))
        .compressor(Arc::new(Lz4Driver))
        .compressor(Arc::new(ZstdDriver))
        .max_pending(64)
        .build()
        .expect("a store");
    if let Err(error) = run(&actions, StoreModelRunner::new(&store)) {
        panic!("{error}\n{}", to_text(&actions));
    }
    drop(store);
    executor.run_all();
}

/// Prints the list if `PRINT_ACTIONS` is set, for `zlab replay` with these options.
fn print_if_requested(actions: Vec<Action>, options: &str) -> Vec<Action> {
    if std::env::var_os("PRINT_ACTIONS").is_some() {
        print!("# zlab replay {options} FILE\n{}", to_text(&actions));
    }
    actions
}
