//! Panic payloads of compressors and jobs may panic when they are dropped. These panics are caught,
//! too.
#![cfg(not(zpool_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use zpool_core::compress::{
    Codec, CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor,
    DecompressionContext,
};
use zpool_core::exec::Job;
use zpool_core::spec::Component;

/// A payload that panics when it is dropped.
struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("the payload panics, too");
    }
}

/// The method that panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Make,
    Bound,
    Compress,
    Decompress,
    BytesHeld,
    Drop,
}

#[derive(Debug, Default)]
struct State {
    panics: Mutex<Vec<At>>,
    alive: AtomicUsize,
}

impl State {
    fn is_at(&self, at: At) {
        let panics = self.panics.lock().unwrap().contains(&at);
        if panics {
            panic_any(Payload);
        }
    }
}

#[derive(Debug)]
struct Hostile {
    identity: Component,
    stateless: bool,
    state: Arc<State>,
}

#[derive(Debug)]
struct Context(Arc<State>);

impl Context {
    fn make(state: &Arc<State>) -> Box<Context> {
        state.is_at(At::Make);
        state.alive.fetch_add(1, SeqCst);
        Box::new(Context(state.clone()))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
        self.0.is_at(At::Drop);
    }
}

impl Compressor for Hostile {
    fn identity(&self) -> &Component {
        &self.identity
    }
    fn capabilities(&self) -> CodecCapabilities {
        let capabilities = CodecCapabilities::new("MIT");
        if self.stateless { capabilities.with_stateless_decompression() } else { capabilities }
    }
    fn compress_bound(&self, block_len: usize) -> usize {
        self.state.is_at(At::Bound);
        block_len
    }
    fn compression_context(&self, _: usize) -> Result<Box<dyn CompressionContext>, CodecError> {
        Ok(Context::make(&self.state))
    }
    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        Ok(Context::make(&self.state))
    }
    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        self.state.is_at(At::Decompress);
        block.copy_from_slice(compressed);
        Ok(())
    }
}

impl CompressionContext for Context {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        self.0.is_at(At::Compress);
        out[..block.len()].copy_from_slice(block);
        Ok(Compressed::Len(block.len()))
    }
    fn bytes_held(&self) -> usize {
        self.0.is_at(At::BytesHeld);
        100
    }
}

impl DecompressionContext for Context {
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        self.0.is_at(At::Decompress);
        block.copy_from_slice(compressed);
        Ok(())
    }
    fn bytes_held(&self) -> usize {
        self.0.is_at(At::BytesHeld);
        100
    }
}

struct Subject {
    codec: Codec,
    state: Arc<State>,
}

impl Subject {
    fn new(stateless: bool) -> Subject {
        let state = Arc::<State>::default();
        let compressor =
            Hostile { identity: Component::named("hostile"), stateless, state: state.clone() };
        Subject { codec: Codec::new(Arc::new(compressor), 8), state }
    }

    fn panics_at(&self, at: &[At]) {
        *self.state.panics.lock().unwrap() = at.to_vec();
    }

    fn compress(&self) -> Result<(), CodecError> {
        self.codec.compress(b"a block", 8, |bytes| assert_eq!(bytes, Some(&b"a block"[..])))
    }

    fn decompress(&self) -> Result<(), CodecError> {
        self.codec.decompress(b"a block", &mut [0; 7])
    }

    /// Checks that the account counts all live contexts, and that the codec works.
    fn check(&self) {
        self.panics_at(&[]);
        assert!(self.compress().is_ok() && self.decompress().is_ok());
        let (alive, bytes) = (self.state.alive.load(SeqCst), self.codec.stats().context_bytes);
        assert!((alive * 100..=alive * 108).contains(&bytes), "{alive} contexts, {bytes} bytes");
    }
}

fn panicked<T>(result: Result<T, CodecError>) -> bool {
    matches!(result, Err(CodecError::Panicked(message)) if message == "(no message)")
}

/// Panic payloads of compressing, decompressing and making a context become errors.
#[test]
fn codec_payloads_become_errors() {
    for stateless in [false, true] {
        for also_dropped in [&[][..], &[At::Drop]] {
            for at in [At::Make, At::Bound, At::BytesHeld, At::Compress, At::Decompress] {
                let subject = Subject::new(stateless);
                subject.panics_at(&[also_dropped, &[at]].concat());
                assert_eq!(panicked(subject.compress()), at != At::Decompress, "{at:?}");
                assert_eq!(
                    panicked(subject.codec.session().compress(&[1], 8)),
                    at != At::Decompress,
                    "{at:?}"
                );
                let decompresses = match at {
                    At::Make | At::BytesHeld => stateless,
                    _ => at != At::Decompress,
                };
                assert_eq!(panicked(subject.decompress()), !decompresses, "{at:?}");
                subject.check();
            }
        }
    }
}

/// A context that panics when it is counted again or discarded does not unwind.
#[test]
fn recount_and_discard_do_not_unwind() {
    let subject = Subject::new(false);
    subject.check();
    subject.panics_at(&[At::BytesHeld]);
    assert_eq!((subject.compress(), subject.decompress()), (Ok(()), Ok(())));
    subject.panics_at(&[At::Drop]);
    subject.codec.retire_compression();
    assert_eq!(subject.state.alive.load(SeqCst), 1, "only the one that decompresses");
    assert_eq!(subject.compress(), Ok(()), "and drops its context, as the codec is retired");
    subject.check();
}

/// A context that is returned while the caller unwinds does not abort the process.
#[test]
fn context_returned_during_unwinding_does_not_abort() {
    for at in [At::BytesHeld, At::Drop] {
        let subject = Subject::new(false);
        subject.check();
        subject.codec.retire_compression();
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _ = subject.codec.compress(&[1], 8, |_| {
                subject.panics_at(&[at]);
                resume_unwind(Box::new("the caller's own"));
            });
        }));
        assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"the caller's own"));
        subject.check();
    }
}

/// If all contexts panic when the codec is dropped, all are dropped.
#[test]
fn codec_drop_drops_all_panicking_contexts() {
    for counted in [false, true] {
        let subject = Subject::new(false);
        // Two of one kind, the second made while the first is leased, and one of the other.
        subject.codec.compress(&[1], 1, |_| subject.compress().unwrap()).unwrap();
        subject.decompress().unwrap();
        assert_eq!(subject.state.alive.load(SeqCst), 3);
        subject.panics_at(&[At::Drop]);
        if counted {
            assert_eq!(subject.codec.free_contexts(), 3);
            assert_eq!(subject.codec.stats().context_bytes, 0);
        }
        drop(subject.codec);
        assert_eq!(subject.state.alive.load(SeqCst), 0);
    }
}

/// A panic payload of a job becomes an error.
#[test]
fn job_payload_becomes_error() {
    let panic = Job::new("hostile", || panic_any(Payload)).run().unwrap_err();
    assert_eq!(panic.to_string(), "job `hostile` panicked: (no message)");
}
