//! The codecs measured. Each has our driver and the crate beneath it.

use std::sync::Arc;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into};
use lzo1x::CompressLevel;
use zpool_core::compress::{
    Compressed, CompressionContext, Compressor, CompressorDriver, DecompressionContext,
};
use zpool_core::spec::Component;
use zpool_lz4::Lz4Driver;
use zpool_lzo::LzoDriver;
use zpool_pagelz::{PagelzCompressor, PagelzDriver};
use zpool_zstd::ZstdDriver;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, FrameFormat};

/// A codec with its setting.
pub(crate) struct CodecSetting {
    pub(crate) spec: &'static str,
    /// An odd number, so that the median is of one round. Each round replaces the boxes once more,
    /// which spreads them in memory.
    pub(crate) rounds: usize,
    driver: Arc<dyn CompressorDriver>,
    raw: fn() -> Raw,
}

/// Returns all codecs that are measured.
pub(crate) fn settings() -> [CodecSetting; 6] {
    // lz4 and pagelz are the fastest, so there is time for more rounds. Their layers also add the
    // least, so they need more.
    [
        CodecSetting {
            spec: "lz4",
            rounds: 41,
            driver: Arc::new(Lz4Driver),
            raw: || Raw::Lz4(Box::new(CompressTable::small())),
        },
        CodecSetting {
            spec: "pagelz",
            rounds: 41,
            driver: Arc::new(PagelzDriver),
            raw: || Raw::pagelz(1),
        },
        CodecSetting {
            spec: "pagelz(level=3)",
            rounds: 21,
            driver: Arc::new(PagelzDriver),
            raw: || Raw::pagelz(3),
        },
        CodecSetting {
            spec: "zstd",
            rounds: 21,
            driver: Arc::new(ZstdDriver),
            raw: || Raw::zstd(1),
        },
        CodecSetting {
            spec: "zstd(level=-1)",
            rounds: 21,
            driver: Arc::new(ZstdDriver),
            raw: || Raw::zstd(-1),
        },
        CodecSetting { spec: "lzo", rounds: 21, driver: Arc::new(LzoDriver), raw: || Raw::Lzo },
    ]
}

impl CodecSetting {
    pub(crate) fn driver(&self) -> Arc<dyn CompressorDriver> {
        self.driver.clone()
    }

    pub(crate) fn compressor(&self) -> Arc<dyn Compressor> {
        let component: Component = self.spec.parse().expect("a spec of ours");
        self.driver.open(&component.params).expect("a setting that the codec has")
    }

    pub(crate) fn raw(&self) -> Raw {
        (self.raw)()
    }
}

/// A codec's crate, called directly with reused state.
pub(crate) enum Raw {
    Lz4(Box<CompressTable>),
    Zstd {
        compression: Box<CCtx<'static>>,
        decompression: Box<DCtx<'static>>,
    },
    Lzo,
    /// Our own crate is the codec, so its contexts are called directly.
    Pagelz {
        codec: PagelzCompressor,
        compression: Box<dyn CompressionContext>,
        /// `None` if a block is decompressed without state.
        decompression: Option<Box<dyn DecompressionContext>>,
    },
}

impl Raw {
    fn pagelz(level: u8) -> Raw {
        let codec = PagelzCompressor::new(level).expect("a level that it has");
        let stateless = codec.capabilities().stateless_decompression;
        let context = || codec.decompression_context().expect("memory for a context");
        Raw::Pagelz {
            compression: codec.compression_context(4096).expect("memory for a context"),
            decompression: (!stateless).then(context),
            codec,
        }
    }

    /// Sets zstd up with our parameters, so that the frames are the same.
    fn zstd(level: i32) -> Raw {
        let (mut compression, mut decompression) = (CCtx::create(), DCtx::create());
        for parameter in [
            CParameter::CompressionLevel(level),
            CParameter::Format(FrameFormat::Magicless),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            compression.set_parameter(parameter).expect("zstd has this parameter");
        }
        decompression
            .set_parameter(DParameter::Format(FrameFormat::Magicless))
            .expect("zstd has this one");
        Raw::Zstd { compression: Box::new(compression), decompression: Box::new(decompression) }
    }

    /// Compresses to the front of `out`, which is as long as the bound.
    #[inline]
    pub(crate) fn compress(&mut self, page: &[u8], out: &mut [u8]) -> usize {
        match self {
            Raw::Lz4(table) => {
                compress_into_with_table(page, out, table).expect("the bound is enough")
            }
            Raw::Zstd { compression, .. } => {
                compression.compress2(out, page).expect("the bound is enough")
            }
            Raw::Lzo => {
                // The crate returns a vector and takes no buffer, so its caller has to copy.
                let compressed = lzo1x::compress(page, const { CompressLevel::new(1) });
                out[..compressed.len()].copy_from_slice(&compressed);
                compressed.len()
            }
            Raw::Pagelz { compression, .. } => match compression.compress(page, out) {
                Ok(Compressed::Len(len)) => len,
                outcome => panic!("the bound suffices, but: {outcome:?}"),
            },
        }
    }

    #[inline]
    pub(crate) fn decompress(&mut self, object: &[u8], page: &mut [u8]) {
        match self {
            Raw::Lz4(_) => {
                decompress_into(object, page).expect("an object of ours");
            }
            Raw::Zstd { decompression, .. } => {
                decompression.decompress(page, object).expect("an object of ours");
            }
            Raw::Lzo => lzo1x::decompress(object, page).expect("an object of ours"),
            Raw::Pagelz { codec, decompression, .. } => match decompression {
                Some(context) => context.decompress(object, page),
                None => codec.decompress(object, page),
            }
            .expect("an object of ours"),
        }
    }
}
