//! A compressor that calls back in the middle of its work.

use std::fmt;
use std::sync::{Arc, Mutex};

use zpool_lz4::Lz4Driver;
use zswap::Component;
use zswap::plugin::{
    CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor, CompressorDriver,
    CreateError, Params,
};

type Call = Box<dyn FnOnce() + Send>;

/// A call in the middle of a compression.
#[derive(Default)]
pub struct Hook(Mutex<Option<(usize, Call)>>);

impl Hook {
    pub fn new() -> Arc<Hook> {
        Arc::default()
    }

    /// Calls `call` once, in the middle of the compression that comes after `skipped` others.
    pub fn after(&self, skipped: usize, call: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some((skipped, Box::new(call)));
    }

    /// Returns whether the call is still to come.
    pub fn is_set(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }

    fn run(&self) {
        let mut set = self.0.lock().unwrap();
        match set.as_mut() {
            None => {}
            Some((skipped, _)) if *skipped > 0 => *skipped -= 1,
            Some(_) => {
                let call = set.take().map(|(_, call)| call);
                drop(set);
                call.into_iter().for_each(|call| call());
            }
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").finish_non_exhaustive()
    }
}

/// Makes the compressor `hooked`: lz4 with a hook.
#[derive(Debug)]
pub struct HookedDriver {
    pub hook: Arc<Hook>,
}

impl CompressorDriver for HookedDriver {
    fn name(&self) -> &str {
        "hooked"
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        let identity = Component::named("hooked").with_params(params.clone());
        let inner = Lz4Driver.open(&Params::default())?;
        Ok(Arc::new(Hooked { identity, inner, hook: self.hook.clone() }))
    }
}

#[derive(Debug)]
struct Hooked {
    identity: Component,
    inner: Arc<dyn Compressor>,
    hook: Arc<Hook>,
}

impl Compressor for Hooked {
    fn identity(&self) -> &Component {
        &self.identity
    }

    fn capabilities(&self) -> CodecCapabilities {
        self.inner.capabilities()
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        self.inner.compress_bound(block_len)
    }

    fn compression_context(
        &self,
        max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        let inner = self.inner.compression_context(max_block_size)?;
        Ok(Box::new(HookedContext { inner, hook: self.hook.clone() }))
    }

    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        self.inner.decompress(compressed, block)
    }
}

#[derive(Debug)]
struct HookedContext {
    inner: Box<dyn CompressionContext>,
    hook: Arc<Hook>,
}

impl CompressionContext for HookedContext {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        self.hook.run();
        self.inner.compress(block, out)
    }

    fn bytes_held(&self) -> usize {
        self.inner.bytes_held()
    }
}
