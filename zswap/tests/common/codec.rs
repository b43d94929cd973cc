//! A run-length compressor with scripted behaviour.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use zswap::Component;
use zswap::plugin::{
    CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor, CompressorDriver,
    CreateError, Params,
};

/// Scripted outcome of compressing a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OnCompress {
    Work,
    Fail,
    Panic,
    /// Panics with what panics again when it is dropped.
    PanicTwice,
    /// Reports that the block does not fit.
    Expand,
    /// Claims to have written more than the buffer holds.
    ClaimTooMuch,
    /// Claims to have written nothing.
    ClaimNothing,
}

/// Scripted outcome of decompressing an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OnDecompress {
    Work,
    Fail,
    Panic,
    /// Panics with what panics again when it is dropped.
    PanicTwice,
}

const ON_COMPRESS: [OnCompress; 7] = [
    OnCompress::Work,
    OnCompress::Fail,
    OnCompress::Panic,
    OnCompress::PanicTwice,
    OnCompress::Expand,
    OnCompress::ClaimTooMuch,
    OnCompress::ClaimNothing,
];
const ON_DECOMPRESS: [OnDecompress; 4] =
    [OnDecompress::Work, OnDecompress::Fail, OnDecompress::Panic, OnDecompress::PanicTwice];

/// Panics when it is dropped.
struct Again;

impl Drop for Again {
    fn drop(&mut self) {
        panic!("the payload panics, too");
    }
}

#[derive(Debug, Default)]
pub struct CodecScript {
    compress: AtomicU8,
    decompress: AtomicU8,
    /// Decompression waits while a test holds this for writing.
    pub gate: RwLock<()>,
    /// How often decompression came to the gate.
    pub arrived: AtomicUsize,
}

impl CodecScript {
    pub fn new() -> Arc<CodecScript> {
        Arc::default()
    }

    pub fn on_compress(&self, what: OnCompress) {
        self.compress.store(what as u8, Ordering::SeqCst);
    }

    /// Waits until decompression came to the gate `times` times.
    pub fn wait_for_arrivals(&self, times: usize) {
        while self.arrived.load(Ordering::SeqCst) < times {
            std::thread::yield_now();
        }
    }

    pub fn on_decompress(&self, what: OnDecompress) {
        self.decompress.store(what as u8, Ordering::SeqCst);
    }
}

/// Makes the compressor `rle`.
#[derive(Debug)]
pub struct RleDriver {
    pub script: Arc<CodecScript>,
}

impl CompressorDriver for RleDriver {
    fn name(&self) -> &str {
        "rle"
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        // Any parameter is accepted: it makes another spec of the same compressor.
        let identity = Component::named("rle").with_params(params.clone());
        Ok(Arc::new(Rle { identity, script: self.script.clone() }))
    }
}

#[derive(Debug)]
struct Rle {
    identity: Component,
    script: Arc<CodecScript>,
}

impl Compressor for Rle {
    fn identity(&self) -> &Component {
        &self.identity
    }

    fn capabilities(&self) -> CodecCapabilities {
        CodecCapabilities::new("MIT").with_stateless_decompression().with_no_heap_once_warm()
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        2 * block_len
    }

    fn compression_context(
        &self,
        _max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        Ok(Box::new(RleContext { script: self.script.clone() }))
    }

    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        match ON_DECOMPRESS[usize::from(self.script.decompress.load(Ordering::SeqCst))] {
            OnDecompress::Work => {
                self.script.arrived.fetch_add(1, Ordering::SeqCst);
                drop(self.script.gate.read().unwrap());
            }
            OnDecompress::Fail => return Err(CodecError::Corrupt),
            OnDecompress::Panic => panic!("a decompressor that panics"),
            OnDecompress::PanicTwice => std::panic::panic_any(Again),
        }
        let mut at = 0;
        for run in compressed.chunks(2) {
            let &[count, byte] = run else { return Err(CodecError::Corrupt) };
            let place = block.get_mut(at..at + usize::from(count)).ok_or(CodecError::Corrupt)?;
            place.fill(byte);
            at += usize::from(count);
        }
        if at == block.len() { Ok(()) } else { Err(CodecError::Corrupt) }
    }
}

#[derive(Debug)]
struct RleContext {
    script: Arc<CodecScript>,
}

impl CompressionContext for RleContext {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        match ON_COMPRESS[usize::from(self.script.compress.load(Ordering::SeqCst))] {
            OnCompress::Work => {}
            OnCompress::Fail => {
                return Err(CodecError::Failed("a compressor that fails".to_owned()));
            }
            OnCompress::Panic => panic!("a compressor that panics"),
            OnCompress::PanicTwice => std::panic::panic_any(Again),
            OnCompress::Expand => return Ok(Compressed::DoesNotFit),
            OnCompress::ClaimTooMuch => return Ok(Compressed::Len(usize::MAX)),
            OnCompress::ClaimNothing => return Ok(Compressed::Len(0)),
        }
        let (mut len, mut rest) = (0, block);
        while let Some(&byte) = rest.first() {
            // A plain loop: in debug builds, iterators would take most of many tests' time.
            let mut count = 1;
            while count < rest.len().min(255) && rest[count] == byte {
                count += 1;
            }
            let Some(place) = out.get_mut(len..len + 2) else { return Ok(Compressed::DoesNotFit) };
            place.copy_from_slice(&[count as u8, byte]);
            (len, rest) = (len + 2, &rest[count..]);
        }
        Ok(Compressed::Len(len))
    }

    fn bytes_held(&self) -> usize {
        size_of::<RleContext>()
    }
}
