//! Pages of the files, pages of noise, and pages that repeat 8 bytes.

use std::hint::black_box;

use workload::{Elapsed, Figure, Pages, PartWork, Report, Rng, clocked, interleave};
use zpool_core::compress::{Codec, Compressor};
use zpool_lz4::Lz4Compressor;
use zswap::Store;

use crate::{PAGE, PART, ROUNDS, plain};

const TYPICAL: usize = 0;
const NOISE: usize = 1;
const SAME: usize = 2;
const READ: usize = 3;

/// The number of noise pages, and of same-filled ones.
const OTHERS: usize = 8 * PART;

pub(crate) fn measure(pages: &Pages, report: &mut Report) {
    let mut rng = Rng::new(5);
    let noise: Vec<u8> =
        (0..OTHERS * PAGE.get() / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
    let noise = Pages::from_bytes(PAGE, noise);
    let same: Vec<u8> =
        (0..OTHERS).flat_map(|_| rng.next_u64().to_le_bytes().repeat(PAGE.get() / 8)).collect();
    let same = Pages::from_bytes(PAGE, same);
    let stores = [plain(), plain(), plain()];
    let mut contestants = [("typical", pages), ("noise", &noise), ("same", &same)]
        .into_iter()
        .zip(&stores)
        .map(|((name, pages), store)| {
            PartWork::new(name, move |part| store_part(store, pages, part))
        })
        .collect::<Vec<_>>();
    contestants.push(PartWork::new("read", |part| read_part(&same, part)));
    let taken = interleave(ROUNDS, pages.len() / PART, &mut contestants).cpu;
    drop(contestants);
    assert_eq!(stores[NOISE].stats().stored_raw, OTHERS, "noise does not shrink");
    assert_eq!(stores[SAME].stats().same_filled, OTHERS);
    report.push(taken.ratio(NOISE, TYPICAL).figure("store_incompressible_over_typical", "ratio"));
    report.push(taken.ratio(SAME, TYPICAL).figure("store_same_filled_over_typical", "ratio"));
    report.push(taken.ratio(READ, TYPICAL).figure("read_same_filled_over_typical", "ratio"));
    let skipped = stores[NOISE].stats().incompressible_skipped as f64;
    report.push(Figure::exact(
        "noise_found",
        skipped / stores[NOISE].stats().stores as f64,
        "ratio",
    ));
    report.push(Figure::exact("noise_wrong", wrong(pages), "ratio"));
}

/// Stores the pages of a part. A part has the same number of pages for every kind.
fn store_part(store: &Store<u64>, pages: &Pages, part: usize) -> Elapsed {
    let first = first_of(pages, part);
    clocked(|| {
        for i in first..first + PART {
            store.store(i as u64, pages.block(i)).expect("there is no limit");
        }
    })
    .0
}

/// Reads every word of the pages of a part, and no more: no check of a page can take less.
fn read_part(pages: &Pages, part: usize) -> Elapsed {
    let first = first_of(pages, part);
    clocked(|| {
        for i in first..first + PART {
            let (words, _) = pages.block(i).as_chunks::<8>();
            black_box(words.iter().fold(0, |all, word| all ^ u64::from_ne_bytes(*word)));
        }
    })
    .0
}

/// Returns the number of the first page of a part. Parts start again after the last page.
fn first_of(pages: &Pages, part: usize) -> usize {
    part * PART % (pages.len() / PART * PART)
}

/// Returns the share of pages that the noise test keeps raw although lz4 shrinks them.
fn wrong(pages: &Pages) -> f64 {
    let codec = Codec::new(
        std::sync::Arc::new(Lz4Compressor::new()) as std::sync::Arc<dyn Compressor>,
        PAGE.get(),
    );
    let store = plain();
    let mut wrong = 0;
    for page in pages {
        let before = store.stats().incompressible_skipped;
        store.store(0, page).expect("there is no limit");
        if store.stats().incompressible_skipped > before {
            let shrinks = codec.compress(page, PAGE.get() - 1, |shorter| shorter.is_some());
            wrong += u32::from(shrinks.expect("nothing fails here"));
        }
    }
    f64::from(wrong) / pages.len() as f64
}
