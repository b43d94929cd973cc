//! The compressor and its driver.

use core::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use zpool_core::compress::{
    CodecCapabilities, CodecError, CompressionContext, Compressor, CompressorDriver,
    DecompressionContext,
};
use zpool_core::internal::try_box;
use zpool_core::spec::{Component, Params};
use zpool_core::{CreateError, might_block};
use zstd::zstd_safe::compress_bound;

use crate::context::{ZstdCompression, ZstdDecompression};
use crate::dictionary::{self, Dictionary, DigestError};
use crate::remembered;

/// zstd at one level, with or without a dictionary.
#[derive(Debug)]
pub struct ZstdCompressor {
    level: i32,
    dictionary: Option<Arc<Dictionary>>,
    identity: Component,
}

impl ZstdCompressor {
    /// The levels: zstd's fast ones down to -7, its regular ones up to 19. 0 is zstd's own default,
    /// 3. Levels over 19 need hundreds of MiB and gain nothing on blocks this short.
    pub const LEVELS: RangeInclusive<i32> = -7..=19;

    /// The default level: the lowest regular one. On pages of memory, higher levels cost more time
    /// than their density is worth, and lower levels lose density: see `benches --bin codecs`.
    pub const DEFAULT_LEVEL: i32 = 1;

    /// Makes zstd at `level`.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadValue`] if the level is not in [`LEVELS`](Self::LEVELS).
    pub fn new(level: i32) -> Result<ZstdCompressor, CreateError> {
        ZstdCompressor::build(level, None)
    }

    /// Makes zstd at `level` with a dictionary: one that [`train`](crate::train) made, or any bytes
    /// that blocks may repeat. Copies and digests them.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadValue`] as for [`new`](Self::new), or if the bytes are not a dictionary:
    /// fewer than 8, more than 4 MiB, or a damaged trained one. [`CreateError::OutOfMemory`].
    pub fn with_dictionary(level: i32, bytes: &[u8]) -> Result<ZstdCompressor, CreateError> {
        let level = checked(level)?;
        let dictionary = digest(bytes, level, "(bytes)")?;
        ZstdCompressor::build(level, Some(dictionary))
    }

    /// Returns the level.
    pub fn level(&self) -> i32 {
        self.level
    }

    /// Returns the XXH64 of the dictionary's bytes.
    pub fn dictionary_hash(&self) -> Option<u64> {
        self.dictionary.as_ref().map(|dictionary| dictionary.hash)
    }

    /// Returns the bytes of the digested dictionary. Contexts share it and do not count it.
    pub fn dictionary_bytes(&self) -> usize {
        self.dictionary.as_ref().map_or(0, |dictionary| dictionary.bytes_held())
    }

    fn build(level: i32, dictionary: Option<Dictionary>) -> Result<ZstdCompressor, CreateError> {
        let level = checked(level)?;
        let mut params = Params::default();
        if level != ZstdCompressor::DEFAULT_LEVEL {
            params.set("level", level.to_string());
        }
        if let Some(dictionary) = &dictionary {
            params.set("dict", remembered::name(dictionary.hash));
        }
        let identity = Component::named(ZstdDriver::NAME).with_params(params);
        Ok(ZstdCompressor { level, dictionary: dictionary.map(Arc::new), identity })
    }
}

impl Compressor for ZstdCompressor {
    fn identity(&self) -> &Component {
        &self.identity
    }

    /// A context allocates all memory that it needs when it is made. The exception is a buffer of
    /// its own, which it allocates once for callers whose buffer is under the bound.
    fn capabilities(&self) -> CodecCapabilities {
        CodecCapabilities::new("BSD-3-Clause").with_no_heap_once_warm()
    }

    fn shared_bytes(&self) -> usize {
        self.dictionary_bytes()
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        compress_bound(block_len)
    }

    fn compression_context(
        &self,
        max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        let context = ZstdCompression::new(self.level, self.dictionary.as_deref(), max_block_size)?;
        Ok(try_box(context).map_err(|_| CodecError::OutOfMemory)?)
    }

    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        let context = ZstdDecompression::new(self.dictionary.clone())?;
        Ok(try_box(context).map_err(|_| CodecError::OutOfMemory)?)
    }
}

/// Makes [`ZstdCompressor`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct ZstdDriver;

impl ZstdDriver {
    /// The compressor's name in a spec.
    pub const NAME: &'static str = "zstd";

    const KNOWN: &'static str = "level (-7 to 19), dict (a file, or xxh64:HASH)";
}

impl CompressorDriver for ZstdDriver {
    fn name(&self) -> &str {
        ZstdDriver::NAME
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        let (mut level, mut file) = (ZstdCompressor::DEFAULT_LEVEL, None);
        for (name, value) in params.iter() {
            match name {
                "level" => level = checked(value.parse().map_err(|_| bad_level(value))?)?,
                "dict" => file = Some(value),
                _ => {
                    let name = name.to_owned();
                    return Err(CreateError::UnknownParameter { name, known: ZstdDriver::KNOWN });
                }
            }
        }
        let dictionary = match file {
            None => None,
            Some(name) if name.starts_with(remembered::PREFIX) => {
                Some(digest(&remembered::find(name)?, level, name)?)
            }
            Some(file) => {
                might_block("reading a dictionary");
                let bytes = dictionary::read(Path::new(file)).map_err(|error| {
                    bad_dictionary(file, &format!("a file that can be read ({error})"))
                })?;
                Some(digest(&bytes, level, file)?)
            }
        };
        Ok(Arc::new(ZstdCompressor::build(level, dictionary)?))
    }
}

/// Returns the level as zstd interprets it, so that each has one identity.
fn checked(level: i32) -> Result<i32, CreateError> {
    match level {
        0 => Ok(zstd::DEFAULT_COMPRESSION_LEVEL),
        level if ZstdCompressor::LEVELS.contains(&level) => Ok(level),
        level => Err(bad_level(&level.to_string())),
    }
}

fn digest(bytes: &[u8], level: i32, origin: &str) -> Result<Dictionary, CreateError> {
    if !(dictionary::MIN_BYTES..=dictionary::MAX_BYTES).contains(&bytes.len()) {
        let (min, max) = (dictionary::MIN_BYTES, dictionary::MAX_BYTES);
        return Err(bad_dictionary(origin, &format!("a dictionary of {min} to {max} bytes")));
    }
    Dictionary::digest(bytes, level).map_err(|error| match error {
        DigestError::Damaged => bad_dictionary(origin, "a dictionary that zstd can load"),
        DigestError::OutOfMemory => CreateError::OutOfMemory,
    })
}

fn bad_level(value: &str) -> CreateError {
    let (first, last) = ZstdCompressor::LEVELS.into_inner();
    bad("level", value, format!("a whole number from {first} to {last}"))
}

pub(crate) fn bad_dictionary(value: &str, expected: &str) -> CreateError {
    bad("dict", value, expected.to_owned())
}

fn bad(name: &str, value: &str, expected: String) -> CreateError {
    CreateError::BadValue { name: name.to_owned(), value: value.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<String, CreateError> {
        let component: Component = text.parse().unwrap();
        ZstdDriver.open(&component.params).map(|codec| codec.identity().to_string())
    }

    /// Each level has one identity, and the default is left out of it.
    #[test]
    fn identity_leaves_out_default_level() {
        assert_eq!(open("zstd").unwrap(), "zstd");
        assert_eq!(open("zstd(level=1)").unwrap(), "zstd");
        assert_eq!(open("zstd(level=+01)").unwrap(), "zstd");
        assert_eq!(open("zstd(level=-7)").unwrap(), "zstd(level=-7)");
        assert_eq!(open("zstd(level=19)").unwrap(), "zstd(level=19)");
        assert_eq!(open("zstd(level=0)").unwrap(), open("zstd(level=3)").unwrap());
    }

    /// A value out of range is an error that names the range.
    #[test]
    fn bad_value_error_names_range() {
        for value in ["-8", "20", "fast", "1.5", "99999999999"] {
            let error = open(&format!("zstd(level={value})")).unwrap_err().to_string();
            let expected =
                format!("parameter `level` is `{value}`, expected a whole number from -7 to 19");
            assert_eq!(error, expected);
        }
        let error = open("zstd(window=10)").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown parameter `window` (known: level (-7 to 19), dict (a file, or xxh64:HASH))"
        );
        assert!(matches!(ZstdCompressor::new(20), Err(CreateError::BadValue { .. })));
    }

    /// An unusable dictionary is an error that names the reason.
    #[test]
    fn bad_dictionary_error_names_reason() {
        let error = open("zstd(dict=/no/such/file)").unwrap_err().to_string();
        assert!(error.starts_with(
            "parameter `dict` is `/no/such/file`, expected a file that can be read ("
        ));
        // The magic number of a trained dictionary, followed by other bytes.
        let damaged = [&[0x37, 0xA4, 0x30, 0xEC][..], &[0xFF; 60]].concat();
        for (bytes, part) in [(&[1; 7][..], "8 to 4194304 bytes"), (&damaged, "zstd can load")] {
            let error = ZstdCompressor::with_dictionary(1, bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
