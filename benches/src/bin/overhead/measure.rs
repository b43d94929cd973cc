//! Measures one file with one codec.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use benches::Failure;
use workload::{ByClock, Contestant, Elapsed, Pages, Rounds, Spread, alternate};
use zswap::{Component, PoolSpec, SequentialKeys, Store};

use crate::codecs::CodecSetting;
use crate::contestants::{
    Fixture, Zram, boxed_compress, codec, layer_compress, layer_decompress, load, raw_compress,
    raw_decompress, store,
};
use crate::result::{CodecOutcome, Ratios, ZramRatios};

/// The contestants by their places.
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
    setting: &CodecSetting,
) -> Result<CodecOutcome, Failure> {
    let fixture = Fixture::new(pages, setting);
    let codec = codec(setting);
    // Keys are page numbers. The other store has the default hasher.
    let kept = filled(&fixture, setting, SequentialKeys::default())?;
    let keyed = filled(&fixture, setting, RandomState::new())?;
    let mut zram = kernel(&fixture, setting);

    // The boxes of a program without a pool. Its stores replace them, and its loads find them where
    // that has left them.
    let mut boxes = fixture.objects().clone();

    let mut failed = None;
    let mut contestants = vec![
        Contestant::new("raw", raw_compress(&fixture, setting.raw())),
        Contestant::new("store", store(&fixture, &kept)),
        Contestant::new("layer", layer_compress(&fixture, &codec)),
        Contestant::new("keyed", store(&fixture, &keyed)),
        Contestant::new("boxes", boxed_compress(&fixture, &mut boxes, setting.raw())),
    ];
    if let Some(zram) = &mut zram {
        contestants.push(Contestant::new("zram", || or_note(zram.write(&fixture), &mut failed)));
    }
    let storing = alternate(setting.rounds, &mut contestants);
    drop(contestants);

    let mut contestants = vec![
        Contestant::new("raw", raw_decompress(&fixture, fixture.objects(), setting.raw())),
        Contestant::new("store", load(&fixture, &kept)),
        Contestant::new("layer", layer_decompress(&fixture, &codec)),
        Contestant::new("keyed", load(&fixture, &keyed)),
        Contestant::new("boxes", raw_decompress(&fixture, &boxes, setting.raw())),
    ];
    if let Some(zram) = &mut zram {
        contestants.push(Contestant::new("zram", || or_note(zram.read(&fixture), &mut failed)));
    }
    let loading = alternate(setting.rounds, &mut contestants);
    drop(contestants);

    if let Some(error) = failed {
        eprintln!("{}: the kernel is left out: zram: {error}", file.display());
        zram = None;
    }
    let with_zram = zram.is_some();
    let per_page = |rounds: &Rounds, who| rounds.ns(who).median / pages.len() as f64;
    Ok(CodecOutcome {
        file: file.display().to_string(),
        codec: setting.spec.to_owned(),
        pages: pages.len(),
        rounds: setting.rounds,
        ratio: pages.bytes().len() as f64 / fixture.object_bytes() as f64,
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

/// Creates a store with every page.
fn filled<S: BuildHasher>(
    fixture: &Fixture<'_>,
    setting: &CodecSetting,
    hasher: S,
) -> Result<Store<u64, S>, Failure> {
    let spec = PoolSpec::new(Component::named("zsmalloc"), setting.spec.parse()?);
    let kept = Store::builder().spec(spec).compressor(setting.driver()).hasher(hasher).build()?;
    for (key, page) in (0..).zip(fixture.pages) {
        kept.store(key, page)?;
    }
    Ok(kept)
}

/// Adds zram for lz4, if the kernel has it.
fn kernel(fixture: &Fixture<'_>, setting: &CodecSetting) -> Option<Zram> {
    if setting.spec != "lz4" {
        return None;
    }
    let mut zram = match Zram::add(fixture, setting.spec) {
        Ok(zram) => zram,
        Err(skipped) => {
            eprintln!("{skipped}");
            return None;
        }
    };
    if let Err(error) = zram.write(fixture) {
        eprintln!("the kernel is left out: zram: {error}");
        return None;
    }
    Some(zram)
}

/// Notes the error of a device, which the report then leaves out.
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
