//! Models that are trained on a program's own pages.

use std::sync::OnceLock;

use zpool_conformance::{Generator, compressor_suite};
use zpool_core::compress::{Compressed, Compressor, CompressorDriver};
use zpool_core::spec::Params;
use zpool_pagelz::{
    PagelzCompressor, PagelzDriver, TrainError, judge, remember, train, train_and_judge,
};
#[cfg(unix)]
use zpool_testing::files::check_special_files_are_refused;
use zpool_testing::heap::{self, CountingAllocator};

const LEN: usize = 4096;

/// Makes pages of a peculiar program: hexadecimal digits, and records of 24 bytes.
fn peculiar(count: u64) -> Vec<Vec<u8>> {
    let page = |seed: u64| {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut page = Vec::new();
        while page.len() < LEN {
            page.extend(format!("{:016x}", next()).bytes());
            page.extend((0x5500_0000 + next() % 4096 * 24).to_le_bytes());
        }
        page.truncate(LEN);
        page
    };
    (1..=count).map(page).collect()
}

fn slices(blocks: &[Vec<u8>]) -> Vec<&[u8]> {
    blocks.iter().map(Vec::as_slice).collect()
}

/// Returns a model for such pages. It is trained once, because that takes a while.
fn own_model() -> &'static [u8] {
    static MODEL: OnceLock<Vec<u8>> = OnceLock::new();
    MODEL.get_or_init(|| train(&slices(&peculiar(100))).unwrap())
}

/// Returns the parameters of a codec with that model.
fn own(level: u8) -> String {
    format!("level={level},model={}", remember(own_model()).unwrap())
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

compressor_suite!(
    own_model,
    [no_heap],
    PagelzDriver,
    own(3),
    rounds = 40,
    heap_calls = heap::calls
);
compressor_suite!(
    own_model_fast,
    [stateless, no_heap],
    PagelzDriver,
    own(1),
    rounds = 40,
    heap_calls = heap::calls
);

/// A model that is a pipe or a directory is refused at once, although nothing writes to the pipe.
#[test]
#[cfg(unix)]
fn model_pipe_or_directory_is_refused() {
    check_special_files_are_refused(|name| {
        let mut params = Params::default();
        params.set("model", name);
        PagelzDriver.open(&params).map(drop).unwrap_err().to_string()
    });
}

#[test]
fn train_same_blocks_same_model() {
    assert_eq!(train(&slices(&peculiar(100))).unwrap(), own_model());
}

/// A model saves bytes on pages of the same program that it was not trained on.
#[test]
fn own_model_saves_bytes_on_other_blocks() {
    let blocks = peculiar(300);
    let (training, others) = blocks.split_at(150);
    let model = train(&slices(training)).unwrap();
    for (level, at_most) in [(1, 1.0), (3, 0.98)] {
        let verdict = judge(&model, &slices(others), level).unwrap();
        assert!(verdict.bytes_ratio() <= at_most, "level {level}: {verdict}");
        assert_eq!(verdict.judged_blocks, others.len());
    }
}

/// A model for noise gains nothing, so it is refused.
#[test]
fn model_for_noise_is_refused() {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    let blocks: Vec<Vec<u8>> = (0..200).map(|_| (0..LEN).map(|_| noise()).collect()).collect();
    let refused = train_and_judge(&blocks, 3).unwrap_err();
    let TrainError::Refused(verdict) = refused else { panic!("{refused}") };
    assert!(verdict.bytes_ratio() > 0.98 && !verdict.pays(), "{verdict}");
}

#[test]
fn too_few_blocks_are_named() {
    let error = train_and_judge(&peculiar(100), 3).unwrap_err();
    assert_eq!(error, TrainError::TooFewSamples { samples: 100, needed: 128 });
    // Same-filled ones do not count.
    let error = train_and_judge(&vec![vec![0; LEN]; 500], 3).unwrap_err();
    assert_eq!(error, TrainError::TooFewSamples { samples: 0, needed: 128 });
}

/// A model is read from a file, and is identified by its contents from then on.
#[test]
fn model_file_is_known_by_its_hash() {
    let model = own_model();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), model).unwrap();
    let mut params = Params::default();
    params.set("model", file.path().to_str().unwrap());
    let codec = PagelzDriver.open(&params).unwrap();
    let name = remember(model).unwrap();
    assert_eq!(codec.identity().to_string(), format!("pagelz(model={name})"));
    assert_eq!(codec.identity(), PagelzCompressor::with_model(1, model).unwrap().identity());
}

/// Generated pages of every kind survive a model that was made for others.
#[test]
fn own_model_foreign_pages_come_back() {
    let codec = PagelzCompressor::with_model(3, own_model()).unwrap();
    let mut context = codec.compression_context(LEN).unwrap();
    let mut decoder = codec.decompression_context().unwrap();
    let (mut out, mut back) = (vec![0; codec.compress_bound(LEN)], vec![0; LEN]);
    for block in Generator::new(8).blocks(LEN).take(60) {
        let Ok(Compressed::Len(len)) = context.compress(&block, &mut out) else { panic!("K5") };
        decoder.decompress(&out[..len], &mut back).unwrap();
        assert!(back == block);
    }
}
