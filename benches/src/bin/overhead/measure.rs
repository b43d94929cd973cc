//! One file with one codec.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use workload::{ByClock, Contestant, Elapsed, Pages, Rounds, Spread, alternate};
use zswap::{Component, PoolSpec, SequentialKeys, Store};

use crate::codecs::Setting;
use crate::contest::{
    Field, Zram, boxed_compress, codec, layer_compress, layer_decompress, load, raw_compress,
    raw_decompress, store,
};
use crate::result::{Outcome, Ratios, ZramRatios};

/// Who is who in a contest.
const RAW: usize = 0;
const STORE: usize = 1;
const LAYER: usize = 2;
const KEYED: usize = 3;
const BOXES: usize = 4;
const ZRAM: usize = 5;

/// Measures `setting` on `pages`.
pub(crate) fn measure(
    file: &Path,
    pages: &Pages,
    setting: &Setting,
) -> Result<Outcome, Box<dyn Error>> {
    let field = Field::new(pages, setting);
    let codec = codec(setting);
    // Keys are page numbers. Next to it the hasher that a store has unless told otherwise.
    let kept = filled(&field, setting, SequentialKeys::default())?;
    let keyed = filled(&field, setting, RandomState::new())?;
    let mut zram = kernel(&field, setting);

    // What a program has that keeps its objects in boxes: its stores replace them, and its loads find them where that has left them.
    let mut boxes = field.objects().clone();

    let mut failed = None;
    let mut contestants = vec![
        Contestant::new("raw", raw_compress(&field, setting.raw())),
        Contestant::new("store", store(&field, &kept)),
        Contestant::new("layer", layer_compress(&field, &codec)),
        Contestant::new("keyed", store(&field, &keyed)),
        Contestant::new("boxes", boxed_compress(&field, &mut boxes, setting.raw())),
    ];
    if let Some(zram) = &mut zram {
        contestants.push(Contestant::new("zram", || or_note(zram.write(&field), &mut failed)));
    }
    let storing = alternate(setting.rounds, &mut contestants);
    drop(contestants);

    let mut contestants = vec![
        Contestant::new("raw", raw_decompress(&field, field.objects(), setting.raw())),
        Contestant::new("store", load(&field, &kept)),
        Contestant::new("layer", layer_decompress(&field, &codec)),
        Contestant::new("keyed", load(&field, &keyed)),
        Contestant::new("boxes", raw_decompress(&field, &boxes, setting.raw())),
    ];
    if let Some(zram) = &mut zram {
        contestants.push(Contestant::new("zram", || or_note(zram.read(&field), &mut failed)));
    }
    let loading = alternate(setting.rounds, &mut contestants);
    drop(contestants);

    if let Some(error) = failed {
        eprintln!("{}: the kernel is left out: zram: {error}", file.display());
        zram = None;
    }
    let with_zram = zram.is_some();
    let per_page = |rounds: &Rounds, who| rounds.ns(who).median / pages.len() as f64;
    Ok(Outcome {
        file: file.display().to_string(),
        codec: setting.spec.to_owned(),
        pages: pages.len(),
        rounds: setting.rounds,
        ratio: pages.bytes().len() as f64 / field.object_bytes() as f64,
        raw_compress_ns: per_page(&storing.cpu, RAW),
        raw_decompress_ns: per_page(&loading.cpu, RAW),
        ratios: ratios(&storing, &loading, |both| &both.cpu, with_zram, |spread| spread.median),
        ranges: ratios(
            &storing,
            &loading,
            |both| &both.cpu,
            with_zram,
            |spread| [spread.low, spread.high],
        ),
        wall: ratios(&storing, &loading, |both| &both.wall, with_zram, |spread| spread.median),
    })
}

/// A store that has every page.
fn filled<S: BuildHasher>(
    field: &Field<'_>,
    setting: &Setting,
    hasher: S,
) -> Result<Store<u64, S>, Box<dyn Error>> {
    let spec = PoolSpec::new(Component::named("zsmalloc"), setting.spec.parse()?);
    let kept = Store::builder().spec(spec).compressor(setting.driver()).hasher(hasher).build()?;
    for (key, page) in (0..).zip(field.pages) {
        kept.store(key, page)?;
    }
    Ok(kept)
}

/// zram, for lz4, where it can be had.
fn kernel(field: &Field<'_>, setting: &Setting) -> Option<Zram> {
    if setting.spec != "lz4" {
        return None;
    }
    let mut zram = match Zram::add(field, setting.spec) {
        Ok(zram) => zram,
        Err(skipped) => {
            eprintln!("{skipped}");
            return None;
        }
    };
    if let Err(error) = zram.write(field) {
        eprintln!("the kernel is left out: zram: {error}");
        return None;
    }
    Some(zram)
}

/// A device that fails in the middle is left out of the report.
fn or_note(outcome: std::io::Result<Elapsed>, failed: &mut Option<std::io::Error>) -> Elapsed {
    outcome.unwrap_or_else(|error| {
        *failed = Some(error);
        Elapsed::default()
    })
}

fn ratios<T>(
    storing: &ByClock,
    loading: &ByClock,
    clock: fn(&ByClock) -> &Rounds,
    with_zram: bool,
    of: fn(Spread) -> T,
) -> Ratios<T> {
    let stores = |who, base| of(clock(storing).ratio(who, base));
    let loads = |who, base| of(clock(loading).ratio(who, base));
    Ratios {
        compress_over_raw: stores(LAYER, RAW),
        decompress_over_raw: loads(LAYER, RAW),
        store_over_raw: stores(STORE, RAW),
        load_over_raw: loads(STORE, RAW),
        store_over_boxes: stores(STORE, BOXES),
        load_over_boxes: loads(STORE, BOXES),
        keyed_store_over_raw: stores(KEYED, RAW),
        keyed_load_over_raw: loads(KEYED, RAW),
        zram: with_zram.then(|| ZramRatios {
            store_speedup: stores(ZRAM, STORE),
            load_speedup: loads(ZRAM, STORE),
            keyed_store_speedup: stores(ZRAM, KEYED),
            keyed_load_speedup: loads(ZRAM, KEYED),
            raw_store_speedup: stores(ZRAM, RAW),
            raw_load_speedup: loads(ZRAM, RAW),
        }),
    }
}
