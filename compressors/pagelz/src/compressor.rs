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

use crate::choice::MinSaving;
use crate::decode::{Decoder, decode_plain};
use crate::encode::Context;
use crate::format::LITERAL_OVERHEAD;
use crate::model::{Model, bad_model};
use crate::remembered;
use crate::tables::Tables;

/// The pagelz compressor at one level, with the generic model or one of the user's own.
#[derive(Debug)]
pub struct PagelzCompressor {
    level: u8,
    tables: Arc<Tables>,
    identity: Component,
}

impl PagelzCompressor {
    /// The levels: 1 codes no stream, 2 codes streams that gain much by it, 3 codes those that gain
    /// less, too.
    pub const LEVELS: RangeInclusive<u8> = 1..=3;

    /// The default level: the fastest one.
    pub const DEFAULT_LEVEL: u8 = 1;

    /// Makes pagelz at `level`, with the generic model.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadValue`] if the level is not in [`LEVELS`](Self::LEVELS).
    pub fn new(level: u8) -> Result<PagelzCompressor, CreateError> {
        PagelzCompressor::build(level, &Model::generic(), None)
    }

    /// Makes pagelz at `level`, with a model that [`train`](crate::train) made.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadValue`] as for [`new`](Self::new), or if the bytes are not a model.
    pub fn with_model(level: u8, bytes: &[u8]) -> Result<PagelzCompressor, CreateError> {
        let model = Model::from_bytes(bytes).ok_or_else(|| bad_model("(bytes)", "a model"))?;
        PagelzCompressor::build(level, &model, Some(remembered::name_of(bytes)))
    }

    /// Returns the level.
    pub fn level(&self) -> u8 {
        self.level
    }

    fn build(
        level: u8,
        model: &Model,
        name: Option<String>,
    ) -> Result<PagelzCompressor, CreateError> {
        if !PagelzCompressor::LEVELS.contains(&level) {
            return Err(bad_level(&level.to_string()));
        }
        let mut params = Params::default();
        if level != PagelzCompressor::DEFAULT_LEVEL {
            params.set("level", level.to_string());
        }
        if let Some(name) = name {
            params.set("model", name);
        }
        Ok(PagelzCompressor {
            level,
            tables: Tables::new(model, level > 1),
            identity: Component::named(PagelzDriver::NAME).with_params(params),
        })
    }

    /// Returns the saving for which a stream is coded, or `None` if none is.
    fn min_saving(&self) -> Option<MinSaving> {
        match self.level {
            1 => None,
            2 => Some(MinSaving { page_divisor: 4, long_divisor: 4 }),
            _ => Some(MinSaving { page_divisor: 8, long_divisor: 7 }),
        }
    }
}

impl Compressor for PagelzCompressor {
    fn identity(&self) -> &Component {
        &self.identity
    }

    /// At level 1, decompression reads the streams in place. At the other levels it decodes them
    /// into a context's buffers, which have room for blocks of 16 KiB from the start and grow once
    /// for longer ones.
    fn capabilities(&self) -> CodecCapabilities {
        let capabilities = CodecCapabilities::new("MIT OR Apache-2.0").with_no_heap_once_warm();
        match self.level {
            1 => capabilities.with_stateless_decompression(),
            _ => capabilities,
        }
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        block_len + LITERAL_OVERHEAD
    }

    fn shared_bytes(&self) -> usize {
        self.tables.bytes_held()
    }

    fn compression_context(
        &self,
        max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        if u32::try_from(max_block_size).is_err() {
            let what = format!("blocks of {max_block_size} bytes are longer than pagelz accepts");
            return Err(CodecError::Failed(what));
        }
        let context = Context::new(self.tables.clone(), self.min_saving(), max_block_size)?;
        Ok(try_box(context).map_err(|_| CodecError::OutOfMemory)?)
    }

    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        let decoder = Decoder::new(self.tables.clone())?;
        Ok(try_box(decoder).map_err(|_| CodecError::OutOfMemory)?)
    }

    /// Checks every length against what is there, and requires literals, offsets and extensions to
    /// be used up exactly. So K9 holds.
    #[inline]
    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        decode_plain(&self.tables, compressed, block)
    }
}

/// Makes [`PagelzCompressor`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct PagelzDriver;

impl PagelzDriver {
    /// The compressor's name in a spec.
    pub const NAME: &'static str = "pagelz";

    const KNOWN: &'static str = "level (1 to 3), model (a file, or fnv64:HASH)";
}

impl CompressorDriver for PagelzDriver {
    fn name(&self) -> &str {
        PagelzDriver::NAME
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        let (mut level, mut model) = (PagelzCompressor::DEFAULT_LEVEL, None);
        for (name, value) in params.iter() {
            match name {
                "level" => level = value.parse().map_err(|_| bad_level(value))?,
                "model" => model = Some(value),
                _ => {
                    let name = name.to_owned();
                    return Err(CreateError::UnknownParameter { name, known: PagelzDriver::KNOWN });
                }
            }
        }
        let Some(name) = model else { return Ok(Arc::new(PagelzCompressor::new(level)?)) };
        let bytes = if name.starts_with(remembered::PREFIX) {
            remembered::find(name)?
        } else {
            might_block("reading a model");
            let read = remembered::read(Path::new(name));
            read.map_err(|error| bad_model(name, &format!("a file that can be read ({error})")))?
        };
        let model = Model::from_bytes(&bytes).ok_or_else(|| bad_model(name, "a model"))?;
        let name = remembered::name_of(&bytes);
        Ok(Arc::new(PagelzCompressor::build(level, &model, Some(name))?))
    }
}

fn bad_level(value: &str) -> CreateError {
    let (first, last) = PagelzCompressor::LEVELS.into_inner();
    CreateError::BadValue {
        name: "level".to_owned(),
        value: value.to_owned(),
        expected: format!("a whole number from {first} to {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<String, CreateError> {
        let component: Component = text.parse().unwrap();
        PagelzDriver.open(&component.params).map(|codec| codec.identity().to_string())
    }

    #[test]
    fn open_default_level_is_left_out() {
        assert_eq!(open("pagelz").unwrap(), "pagelz");
        assert_eq!(open("pagelz(level=1)").unwrap(), "pagelz");
        assert_eq!(open("pagelz(level=+3)").unwrap(), "pagelz(level=3)");
    }

    #[test]
    fn open_bad_values_are_named() {
        for value in ["0", "4", "fast", "-1", "300"] {
            let error = open(&format!("pagelz(level={value})")).unwrap_err().to_string();
            let expected =
                format!("parameter `level` is `{value}`, expected a whole number from 1 to 3");
            assert_eq!(error, expected);
        }
        let error = open("pagelz(model=/no/such/file)").unwrap_err().to_string();
        let expected = "parameter `model` is `/no/such/file`, expected a file that can be read (";
        assert!(error.starts_with(expected), "{error}");
        assert!(matches!(
            PagelzCompressor::with_model(1, b"PLZMODL1"),
            Err(CreateError::BadValue { .. })
        ));
    }
}
