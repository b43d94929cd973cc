//! The latency of a block in the tier, over that of its read.

use std::sync::Arc;
use std::time::Instant;

use benches::{Failure, FigureRow, FigureRows, store_all};
use workload::{LatencyHistogram, Rng, Spread};
use zswap::plugin::BackingStore;

use crate::recording::RecordingTier;
use crate::{PAGE, ROUNDS, Subject, builder};

/// Blocks of a round.
const LOADS: usize = 2_000;

pub(crate) fn measure(subject: &Subject<'_>, rows: &mut FigureRows) -> Result<(), Failure> {
    let file = Arc::new(RecordingTier::new(subject.file_tier(subject.roomy())?));
    let store = builder(usize::MAX / 2, file.clone()).build()?;
    store_all(&store, &subject.pages)?;
    while store.write_back() > 0 {}
    let mut buffer = vec![0; PAGE.get()];
    let mut bare_buffer = file.capabilities().segment_buffer()?;
    let (mut ratios, mut rng) = (Vec::new(), Rng::new(1));
    // The first round warms buffers.
    for round in 0..=ROUNDS {
        let (mut loads, mut bare) = (LatencyHistogram::new(), LatencyHistogram::new());
        file.take_reads();
        // In alternation, so that both meet the same disk: a load, then the read of an earlier one.
        let mut reads = Vec::new();
        for _ in 0..LOADS {
            let key = rng.below(subject.pages.len()) as u64;
            let began = Instant::now();
            store.peek(&key, &mut buffer)?;
            loads.record(began.elapsed().as_nanos() as u64);
            reads.extend(file.take_reads());
            if !reads.is_empty() {
                let read = reads[rng.below(reads.len())];
                bare.record(file.time(read, &mut bare_buffer)?.as_nanos() as u64);
            }
        }
        if reads.len() < LOADS / 2 {
            return Err("most blocks are still in memory".into());
        }
        if round > 0 {
            ratios.push(loads.p50() as f64 / bare.p50() as f64);
        }
    }
    let spread = Spread::of(ratios).ok_or("a figure is not a number")?;
    rows.results.push(FigureRow::median(&subject.file, "backed_load_over_pread", spread));
    Ok(())
}
