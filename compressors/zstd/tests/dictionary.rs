//! Dictionaries: from training to a codec's identity.

use std::io::Write;
use std::sync::Arc;

use zpool_core::compress::{Codec, CodecError, Compressor, CompressorDriver};
use zpool_core::spec::Component;
#[cfg(unix)]
use zpool_testing::files::check_special_files_are_refused;
use zpool_zstd::{TrainError, ZstdCompressor, ZstdDriver, judge, train, train_and_judge};

/// Records that share their structure and differ in their values: what dictionaries are for.
fn records(seeds: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    let record = |seed: u64| {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut text = String::new();
        for field in
            ["identifier", "created_at", "owner_name", "permissions", "checksum_of_contents"]
        {
            random = (random ^ (random >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            text += &format!(
                "{{\"field\": \"{field}\", \"value\": {random}, \"is_indexed\": false}},\n"
            );
        }
        text.into_bytes()
    };
    seeds.map(record).collect()
}

fn compressed_len(codec: &Codec, blocks: &[Vec<u8>]) -> usize {
    let len =
        |block: &Vec<u8>| codec.compress(block, usize::MAX, |bytes| bytes.unwrap().len()).unwrap();
    blocks.iter().map(len).sum()
}

fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(file: &tempfile::NamedTempFile, level: i32) -> Arc<dyn Compressor> {
    let spec = format!("zstd(level={level},dict={})", file.path().display());
    ZstdDriver.open(&spec.parse::<Component>().unwrap().params).unwrap()
}

/// A trained dictionary shrinks blocks that were not in its sample.
#[test]
fn trained_dictionary_shrinks_other_blocks() {
    let dictionary = train(&records(0..800), 4096).unwrap();
    assert!((256..=4096).contains(&dictionary.len()));
    assert_eq!(
        train(&records(0..800), 4096).unwrap(),
        dictionary,
        "the same samples, the same dictionary"
    );

    let blocks = records(10_000..10_100);
    for level in [-5, 1, 9] {
        let without = Codec::new(Arc::new(ZstdCompressor::new(level).unwrap()), 4096);
        let with = ZstdCompressor::with_dictionary(level, &dictionary).unwrap();
        let with = Codec::new(Arc::new(with), 4096);
        let descriptor = with.compress(&blocks[0], 4096, |bytes| bytes.unwrap()[0]).unwrap();
        assert_eq!(descriptor, 0, "a trained dictionary has an id, but it stays out of the frame");
        let (len_without, len_with) =
            (compressed_len(&without, &blocks), compressed_len(&with, &blocks));
        assert!(
            2 * len_with < len_without,
            "level {level}: {len_with} bytes with, {len_without} without"
        );
    }
}

/// A dictionary's identity depends on its content, not on its file.
#[test]
fn identity_depends_on_content_not_file() {
    let (a, b) =
        (train(&records(0..800), 4096).unwrap(), train(&records(1000..1800), 4096).unwrap());
    assert_ne!(a, b);
    let codecs = [
        open(&file_of(&a), 1),
        open(&file_of(&a), 1),
        open(&file_of(&b), 1),
        open(&file_of(&a), 2),
    ];
    let [first, same, other, level] = codecs.each_ref().map(|codec| codec.identity().clone());
    assert_eq!(first, same);
    assert_ne!(first, other);
    assert_ne!(first, level);
    let hash = ZstdCompressor::with_dictionary(1, &a).unwrap().dictionary_hash().unwrap();
    assert_eq!(first.to_string(), format!("zstd(dict=xxh64:{hash:016x})"));
    assert_eq!(first.to_string().parse::<Component>().unwrap(), first, "the grammar can write it");
}

/// A file that changes or is removed after it was read has no effect.
#[test]
fn changed_or_removed_file_has_no_effect() {
    let dictionary = train(&records(0..800), 4096).unwrap();
    let mut file = file_of(&dictionary);
    let codec = Codec::new(open(&file, 1), 4096);
    let blocks = records(5..6);
    let before = codec.compress(&blocks[0], 4096, |bytes| bytes.unwrap().to_vec()).unwrap();
    file.write_all(b"more").unwrap();
    drop(file);
    codec.retire_compression();
    codec.revive_compression();
    assert_eq!(codec.compress(&blocks[0], 4096, |bytes| bytes.unwrap().to_vec()).unwrap(), before);
    let mut back = vec![0; blocks[0].len()];
    assert_eq!(codec.decompress(&before, &mut back), Ok(()));
    assert_eq!(back, blocks[0]);
}

/// With another dictionary, decompression is an error or returns wrong bytes, but never the block,
/// and never bytes of an earlier block.
#[test]
fn k9_other_dictionary_is_error_or_wrong_bytes() {
    let (a, b) =
        (train(&records(0..800), 4096).unwrap(), train(&records(1000..1800), 4096).unwrap());
    let right = ZstdCompressor::with_dictionary(1, &a).unwrap();
    let wrong = ZstdCompressor::with_dictionary(1, &b).unwrap();
    for block in records(50..90) {
        let mut out = vec![0; right.compress_bound(block.len())];
        let outcome = right.compression_context(4096).unwrap().compress(&block, &mut out).unwrap();
        let zpool_core::compress::Compressed::Len(len) = outcome else { panic!("fits the bound") };
        let results = [0xA5, 0x5A].map(|poison| {
            let mut back = vec![poison; block.len()];
            let mut context = wrong.decompression_context().unwrap();
            context.decompress(&out[..len], &mut back).map(|()| back)
        });
        assert_eq!(results[0], results[1]);
        assert!(
            results[0].as_ref().is_err_and(|e| *e == CodecError::Corrupt)
                || results[0] != Ok(block)
        );
    }
}

/// Whether a dictionary pays also depends on time, which no test measures, so this one checks the
/// bytes.
#[test]
fn judges_on_blocks_that_were_not_in_the_sample() {
    let blocks = records(0..1600);
    let (verdict, dictionary) = match train_and_judge(&blocks, 1, 4096) {
        Ok(trained) => (trained.verdict, Some(trained.dictionary)),
        Err(TrainError::Refused(verdict)) => (verdict, None),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(dictionary.is_some(), verdict.pays());
    assert_eq!(
        (verdict.trained_blocks, verdict.judged_blocks, verdict.level),
        (832, 768, 1),
        "runs of 64 in turn"
    );
    assert!(verdict.bytes_ratio() < 0.5, "{verdict}");
    let Some(dictionary) = dictionary else { return };
    let again = judge(&dictionary, &blocks[64..128], 1).unwrap();
    assert_eq!((again.judged_blocks, again.dictionary_bytes), (64, dictionary.len()));
    assert_eq!(judge(&dictionary, &blocks[64..128], 1).unwrap().with.bytes, again.with.bytes);
}

/// A judgment that fails names the reason.
#[test]
fn failed_judgment_names_reason() {
    let too_few = TrainError::TooFewSamples { samples: 1, needed: 13 };
    assert_eq!(train_and_judge(&records(0..1), 1, 4096).unwrap_err(), too_few);
    let error = train_and_judge(&records(0..1600), 20, 4096).unwrap_err().to_string();
    assert!(error.contains("-7 to 19"), "{error}");
    assert!(
        judge(&[1; 7], &records(0..9), 1).unwrap_err().to_string().contains("8 to 4194304 bytes")
    );
    for nothing in [&[][..], &[Vec::new(), Vec::new()]] {
        assert_eq!(judge(&[1; 9], nothing, 1).unwrap_err(), TrainError::NothingToJudge);
    }
}

/// Too few samples are an error that says how many can be used and how many are needed. With one
/// more, the error is another one or none.
#[test]
fn training_too_few_samples_says_needed() {
    let too_few =
        |samples: u64, needed| Err(TrainError::TooFewSamples { samples: samples as usize, needed });
    for usable in [0, 1, 2, 6] {
        assert_eq!(train(&records(0..usable), 4096), too_few(usable, 7));
        let padded = [records(0..usable), vec![Vec::new(); 20]].concat();
        assert_eq!(train(&padded, 4096), too_few(usable, 7), "empty samples do not count");
    }
    assert!(!matches!(train(&records(0..7), 4096), Err(TrainError::TooFewSamples { .. })));
    let judged =
        |usable| train_and_judge(&[records(0..usable), vec![vec![7; 300]; 50]].concat(), 1, 4096);
    assert_eq!(judged(12).map(drop), Err(TrainError::TooFewSamples { samples: 12, needed: 13 }));
    assert!(!matches!(judged(13), Err(TrainError::TooFewSamples { .. })));
    assert_eq!(train(&records(0..800), 100), Err(TrainError::MaxLenTooSmall));
}

/// Whatever cannot be trained on is an error of one line that says what is missing; none is zstd's
/// generic one.
#[test]
fn training_unusable_input_says_what_is_missing() {
    let mut state = 1_u64;
    let mut noise = |len: usize| -> Vec<u8> {
        (0..len)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    };
    let page = noise(4096);
    let almost = |i: usize| [&page[..4095], &[i as u8]].concat();
    let inputs: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("equal pages", vec![page.clone(); 200]),
        ("two pages", (0..200).map(|i| almost(i % 2)).collect()),
        ("pages that differ in a byte", (0..200).map(almost).collect()),
        ("noise", (0..200).map(|_| noise(4096)).collect()),
        ("a little noise", (0..20).map(|_| noise(64)).collect()),
        ("short blocks", (0..200).map(|_| noise(9)).collect()),
        ("a few short blocks", (0..13).map(|_| noise(9)).collect()),
        // zstd reads out of bounds here.
        ("8 blocks of a byte", (0..8).map(|i| vec![i as u8]).collect()),
        ("blocks of a byte", (0..200).map(|i| vec![i as u8]).collect()),
        (
            "zeros but for a byte",
            (0..200).map(|i| [vec![0; 100], vec![i as u8]].concat()).collect(),
        ),
    ];
    for (what, blocks) in inputs {
        for error in [train(&blocks, 4096).err(), train_and_judge(&blocks, 1, 4096).err()]
            .into_iter()
            .flatten()
        {
            let line = error.to_string();
            assert!(!matches!(error, TrainError::Failed(_)), "{what}: {line}");
            assert!(!line.contains("generic") && !line.contains('\n'), "{what}: {line}");
        }
    }
    let equal = train_and_judge(&vec![page.clone(); 200], 1, 4096).unwrap_err();
    assert_eq!(equal, TrainError::TooSimilar { samples: 200, different: 1 });
}

/// A dictionary that is a pipe or a directory is refused at once, although nothing writes to the
/// pipe.
#[test]
#[cfg(unix)]
fn dictionary_pipe_or_folder_is_refused() {
    check_special_files_are_refused(|name| {
        let spec: Component = format!("zstd(dict={name})").parse().unwrap();
        ZstdDriver.open(&spec.params).map(drop).unwrap_err().to_string()
    });
}

/// A file without an end, such as a device, is refused.
#[test]
fn endless_file_is_refused() {
    let open = |file: &str| {
        let spec: Component = format!("zstd(dict={file})").parse().unwrap();
        ZstdDriver.open(&spec.params).map(|_| ()).unwrap_err().to_string()
    };
    assert!(open(file_of(b"").path().to_str().unwrap()).contains("8 to 4194304 bytes"));
    // A regular file that is read no further than it takes to see that it is too long.
    let sparse = file_of(b"");
    sparse.as_file().set_len(1 << 40).unwrap();
    assert!(open(sparse.path().to_str().unwrap()).contains("8 to 4194304 bytes"));
}

/// A file that is not regular is refused at once: a pipe without a writer, or a device without an
/// end.
#[cfg(unix)]
#[test]
fn open_refuses_pipes_devices_directories() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let dictionary = file_of(&records(0..4).concat());
    let link = |name: &str, to: &std::path::Path| {
        let link = folder.path().join(name);
        std::os::unix::fs::symlink(to, &link).unwrap();
        link
    };
    let refused = [
        link("to-pipe", &pipe),
        pipe,
        "/dev/zero".into(),
        "/dev/tty".into(),
        "/dev/null".into(),
        link("to-folder", folder.path()),
        folder.path().to_owned(),
    ];
    let open = |path: std::path::PathBuf| {
        let spec: Component = format!("zstd(dict={})", path.display()).parse().unwrap();
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(ZstdDriver.open(&spec.params).map(drop)));
        // Only a watchdog, because the fault would be a wait without end.
        wait.recv_timeout(std::time::Duration::from_secs(60)).expect("opening does not wait")
    };
    for path in refused {
        let error = open(path.clone()).unwrap_err().to_string();
        assert!(error.contains("must be a regular file"), "{}: {error}", path.display());
    }
    open(link("to-file", dictionary.path())).unwrap();
}
