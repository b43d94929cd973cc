//! Many stores in one process, such as one for each tenant: the bytes of an empty store, and the
//! threads of all.

use std::fs;

use benches::{Failure, FigureRow};
use workload::Growth;
use zswap::Store;

use crate::SizePlan;
use crate::blocks::noise;

/// The figures are of 100 stores, so there are never fewer.
const STORES: usize = 100;

/// Makes 100 empty stores. The larger of resident bytes and counted bytes is reported.
///
/// The first store of a process pays for what all share, which is 1/100 of this figure.
pub(crate) fn empty(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    let file = plan.file("-");
    let mut stores: Vec<Store<u64>> = Vec::with_capacity(STORES);
    let before = Growth::start()?;
    for _ in 0..STORES {
        stores.push(Store::builder().build()?);
    }
    let resident = before.bytes()? as f64 / STORES as f64;
    let held = stores.iter().map(Store::bytes_held).sum::<usize>() as f64 / STORES as f64;
    Ok(vec![
        FigureRow::once(&file, "empty_store_bytes", resident.max(held)),
        FigureRow::once(&file, "empty_store_resident_bytes", resident),
        FigureRow::once(&file, "empty_store_held_bytes", held),
    ])
}

/// Counts the threads of a process with 100 stores that each stored a block, switched and stored
/// another.
pub(crate) fn threads(plan: &SizePlan) -> Result<Vec<FigureRow>, Failure> {
    let (mut stores, mut most) = (Vec::new(), 0);
    for _ in 0..STORES {
        let store: Store<u64> = Store::builder().build()?;
        store.store(0, noise(0))?;
        store.switch(&"zsmalloc(chain=8)+lz4".parse()?)?;
        store.store(1, noise(1))?;
        stores.push(store);
        most = most.max(fs::read_dir("/proc/self/task")?.count());
    }
    Ok(vec![FigureRow::once(&plan.file("-"), "threads_of_100_stores", most as f64)])
}
