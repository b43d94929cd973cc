//! One codec under test.

use std::sync::Arc;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into};
use zpool_core::compress::{
    Compressed, CompressionContext, Compressor, CompressorDriver, DecompressionContext,
};
use zpool_core::spec::Component;
use zpool_lz4::Lz4Driver;
use zpool_lzo::LzoDriver;
use zpool_pagelz::PagelzDriver;
use zpool_zstd::ZstdDriver;

/// A codec with the state that it reuses.
pub(crate) enum Subject {
    /// The crate `lz4_flex` itself: the yardstick stays when our lz4 changes.
    Lz4Flex(Box<CompressTable>),
    /// lz4's own C library.
    Lz4C,
    /// A codec of this workspace.
    Ours {
        compressor: Arc<dyn Compressor>,
        compression: Box<dyn CompressionContext>,
        decompression: Option<Box<dyn DecompressionContext>>,
    },
}

impl Subject {
    /// Returns the codec of this name or spec.
    pub(crate) fn new(name: &str, block_size: usize) -> Result<Self, benches::Failure> {
        match name {
            "lz4_flex" if block_size < usize::from(u16::MAX) => {
                return Ok(Subject::Lz4Flex(Box::new(CompressTable::small())));
            }
            "lz4_flex" => return Ok(Subject::Lz4Flex(Box::new(CompressTable::large()))),
            "lz4-c" => return Ok(Subject::Lz4C),
            _ => {}
        }
        let spec: Component = name.parse()?;
        let drivers = drivers();
        let Some(driver) = drivers.iter().find(|driver| driver.name() == spec.name) else {
            return Err(format!("there is no codec `{}`", spec.name).into());
        };
        let compressor = driver.open(&spec.params)?;
        let stateless = compressor.capabilities().stateless_decompression;
        Ok(Subject::Ours {
            compression: compressor.compression_context(block_size)?,
            decompression: match stateless {
                true => None,
                false => Some(compressor.decompression_context()?),
            },
            compressor,
        })
    }

    /// Returns the most bytes that a compressed block takes.
    pub(crate) fn bound(&self, block_len: usize) -> usize {
        match self {
            Subject::Lz4Flex(_) => lz4_flex::block::get_maximum_output_size(block_len),
            Subject::Lz4C => lz4::block::compress_bound(block_len).expect("blocks are short"),
            Subject::Ours { compressor, .. } => compressor.compress_bound(block_len),
        }
    }

    /// Compresses to the front of `out`, which has the bound's length.
    #[inline]
    pub(crate) fn compress(&mut self, page: &[u8], out: &mut [u8]) -> usize {
        match self {
            Subject::Lz4Flex(table) => {
                compress_into_with_table(page, out, table).expect("the bound is enough")
            }
            Subject::Lz4C => {
                lz4::block::compress_to_buffer(page, None, false, out).expect("the bound is enough")
            }
            Subject::Ours { compression, .. } => match compression.compress(page, out) {
                Ok(Compressed::Len(len)) => len,
                outcome => panic!("the bound suffices, but: {outcome:?}"),
            },
        }
    }

    /// Decompresses what [`compress`](Self::compress) made of a page.
    #[inline]
    pub(crate) fn decompress(&mut self, object: &[u8], page: &mut [u8]) {
        match self {
            Subject::Lz4Flex(_) => {
                decompress_into(object, page).expect("an object of ours");
            }
            Subject::Lz4C => {
                let len = i32::try_from(page.len()).expect("blocks are short");
                lz4::block::decompress_to_buffer(object, Some(len), page)
                    .expect("an object of ours");
            }
            Subject::Ours { compressor, decompression, .. } => match decompression {
                Some(context) => context.decompress(object, page),
                None => compressor.decompress(object, page),
            }
            .expect("an object of ours"),
        }
    }
}

fn drivers() -> [Arc<dyn CompressorDriver>; 4] {
    [Arc::new(Lz4Driver), Arc::new(LzoDriver), Arc::new(PagelzDriver), Arc::new(ZstdDriver)]
}
