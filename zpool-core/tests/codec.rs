//! A `Codec` stays usable, and its accounts right, whatever its compressor does.
#![cfg(not(zpool_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};

use zpool_core::compress::{
    Codec, CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor,
    ContextBudget, DecompressionContext,
};
use zpool_core::internal::cpu_shards;
use zpool_core::spec::Component;
use zpool_core::{CheckPolicy, NoBlock, set_check_policy};

const BLOCK: usize = 64;
const CONTEXT_BYTES: usize = 1000;
/// Bytes of one compression context with its scratch.
const CONTEXT_AND_SCRATCH: usize = CONTEXT_BYTES + BLOCK;

/// The compressor's next action. Afterwards it copies again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Next {
    Compress(Fault),
    Decompress(Fault),
    MakeContext(Fault),
    Bound(usize),
    PanicInBound,
    PanicInBytesHeld,
    PanicInDrop,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Error,
    Panic,
    Claim(usize),
    DoesNotFit,
}

impl Fault {
    fn act(self) -> Result<Compressed, CodecError> {
        match self {
            Fault::Error => Err(CodecError::Failed("as told".into())),
            Fault::Panic => panic!("on purpose"),
            Fault::Claim(len) => Ok(Compressed::Len(len)),
            Fault::DoesNotFit => Ok(Compressed::DoesNotFit),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    next: Mutex<Option<Next>>,
    /// Number of contexts alive.
    alive: AtomicUsize,
    /// Bytes that a context reports beyond [`CONTEXT_BYTES`].
    grown: AtomicUsize,
}

impl State {
    fn is_next(&self, wanted: impl Fn(Next) -> bool) -> Option<Next> {
        self.next.lock().unwrap().take_if(|next| wanted(*next))
    }

    fn fault_in(&self, pick: impl Fn(Next) -> Option<Fault>) -> Option<Fault> {
        self.is_next(|next| pick(next).is_some()).and_then(pick)
    }
}

#[derive(Debug)]
struct Scripted {
    identity: Component,
    stateless: bool,
    /// Bytes that the contexts share.
    shared: usize,
    state: Arc<State>,
}

#[derive(Debug)]
struct Context(Arc<State>);

impl Compressor for Scripted {
    fn identity(&self) -> &Component {
        &self.identity
    }
    fn capabilities(&self) -> CodecCapabilities {
        let capabilities = CodecCapabilities::new("MIT");
        if self.stateless { capabilities.with_stateless_decompression() } else { capabilities }
    }
    fn shared_bytes(&self) -> usize {
        self.shared
    }
    fn compress_bound(&self, block_len: usize) -> usize {
        match self.state.is_next(|next| matches!(next, Next::Bound(_) | Next::PanicInBound)) {
            Some(Next::Bound(bound)) => bound,
            Some(_) => panic!("on purpose"),
            None => block_len,
        }
    }
    fn compression_context(&self, _: usize) -> Result<Box<dyn CompressionContext>, CodecError> {
        Ok(Box::new(Context::make(&self.state)?))
    }
    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        Ok(Box::new(Context::make(&self.state)?))
    }
    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        copy_back(&self.state, compressed, block)
    }
}

impl Context {
    fn make(state: &Arc<State>) -> Result<Context, CodecError> {
        let fault = state
            .fault_in(|next| if let Next::MakeContext(fault) = next { Some(fault) } else { None });
        fault.map_or(Ok(Compressed::DoesNotFit), Fault::act)?;
        state.alive.fetch_add(1, SeqCst);
        Ok(Context(state.clone()))
    }

    fn held(&self) -> usize {
        assert!(self.0.is_next(|next| next == Next::PanicInBytesHeld).is_none(), "on purpose");
        CONTEXT_BYTES + self.0.grown.load(SeqCst)
    }
}

impl CompressionContext for Context {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        let fault = self
            .0
            .fault_in(|next| if let Next::Compress(fault) = next { Some(fault) } else { None });
        if let Some(fault) = fault {
            return fault.act();
        }
        out[..block.len()].copy_from_slice(block);
        Ok(Compressed::Len(block.len()))
    }
    fn bytes_held(&self) -> usize {
        self.held()
    }
}

impl DecompressionContext for Context {
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        copy_back(&self.0, compressed, block)
    }
    fn bytes_held(&self) -> usize {
        self.held()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
        assert!(self.0.is_next(|next| next == Next::PanicInDrop).is_none(), "on purpose");
    }
}

fn copy_back(state: &State, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
    let fault =
        state.fault_in(|next| if let Next::Decompress(fault) = next { Some(fault) } else { None });
    if let Some(fault) = fault {
        return fault.act().map(|_| ());
    }
    block.copy_from_slice(compressed);
    Ok(())
}

/// Makes a codec over a scripted compressor.
struct Subject {
    codec: Codec,
    state: Arc<State>,
}

impl Subject {
    fn new(stateless: bool) -> Subject {
        Subject::sharing(stateless, 0)
    }

    fn sharing(stateless: bool, shared: usize) -> Subject {
        let state = Arc::new(State::default());
        let identity = Component::named("scripted");
        let compressor = Scripted { identity, stateless, shared, state: state.clone() };
        Subject { codec: Codec::new(Arc::new(compressor), BLOCK), state }
    }

    fn next(&self, next: Next) {
        *self.state.next.lock().unwrap() = Some(next);
    }

    fn compress(&self) -> Result<Option<Vec<u8>>, CodecError> {
        self.codec.compress(&[5; BLOCK], BLOCK, |bytes| bytes.map(<[u8]>::to_vec))
    }

    fn decompress(&self) -> Result<(), CodecError> {
        let mut block = [0; BLOCK];
        self.codec.decompress(&[5; BLOCK], &mut block).inspect(|()| assert_eq!(block, [5; BLOCK]))
    }

    /// Returns contexts alive, contexts made, and failed attempts, after checking the bytes.
    fn contexts(&self) -> (usize, u64, u64) {
        let (stats, alive) = (self.codec.stats(), self.state.alive.load(SeqCst));
        assert!(
            (alive * CONTEXT_BYTES..=alive * CONTEXT_AND_SCRATCH).contains(&stats.context_bytes),
            "{alive}: {stats:?}"
        );
        (alive, stats.contexts_made, stats.contexts_failed)
    }
}

/// Bytes that contexts share count once, from the beginning.
#[test]
fn shared_bytes_count_once() {
    let subject = Subject::sharing(false, 70_000);
    assert_eq!(subject.codec.stats().context_bytes, 70_000);
    assert_eq!(subject.compress(), Ok(Some(vec![5; BLOCK])));
    assert_eq!(subject.decompress(), Ok(()));
    let contexts = CONTEXT_AND_SCRATCH + CONTEXT_BYTES;
    assert_eq!(subject.codec.stats().context_bytes, contexts + 70_000);
    assert_eq!(subject.codec.free_contexts(), 0);
    assert_eq!(subject.codec.stats().context_bytes, 70_000);
}

/// Contexts are made on first use and reused.
#[test]
fn contexts_are_made_on_first_use_and_reused() {
    let subject = Subject::new(false);
    assert_eq!(subject.contexts(), (0, 0, 0));
    for _ in 0..10 {
        assert_eq!(subject.compress(), Ok(Some(vec![5; BLOCK])));
        assert_eq!(subject.decompress(), Ok(()));
    }
    assert_eq!(subject.contexts(), (2, 2, 0));
    assert_eq!(subject.codec.stats().context_bytes, CONTEXT_AND_SCRATCH + CONTEXT_BYTES);

    let stateless = Subject::new(true);
    assert_eq!(stateless.decompress(), Ok(()));
    assert_eq!(stateless.contexts(), (0, 0, 0));
}

/// Output over the limit is `None`; otherwise the caller sees exactly the compressed bytes.
#[test]
fn too_long_output_is_none() {
    let subject = Subject::new(false);
    let len = |block: &[u8], max| {
        subject.codec.compress(block, max, |bytes| bytes.map(<[u8]>::len)).unwrap()
    };
    assert_eq!(len(&[1; 64], 64), Some(64));
    assert_eq!(len(&[1; 64], 63), None);
    assert_eq!(len(&[1; 9], 63), Some(9));
    subject.next(Next::Compress(Fault::DoesNotFit));
    assert_eq!(len(&[1; 9], 63), None);
    assert_eq!(subject.contexts(), (1, 1, 0));
}

/// An error of the codec keeps the context.
#[test]
fn codec_error_keeps_context() {
    let subject = Subject::new(false);
    let error = CodecError::Failed("as told".into());
    for _ in 0..3 {
        subject.next(Next::Compress(Fault::Error));
        assert_eq!(subject.compress(), Err(error.clone()));
        subject.next(Next::Decompress(Fault::Error));
        assert_eq!(subject.decompress(), Err(error.clone()));
    }
    assert_eq!(subject.contexts(), (2, 2, 0));
}

/// A panic of the codec is an error, and its context is dropped.
#[test]
fn codec_panic_is_error_and_drops_context() {
    for stateless in [false, true] {
        let subject = Subject::new(stateless);
        let panicked = CodecError::Panicked("on purpose".into());
        subject.next(Next::Compress(Fault::Panic));
        assert_eq!(subject.compress(), Err(panicked.clone()));
        subject.next(Next::Decompress(Fault::Panic));
        assert_eq!(subject.decompress(), Err(panicked));
        assert_eq!(subject.contexts().0, 0);
        assert_eq!(subject.compress(), Ok(Some(vec![5; BLOCK])));
        assert_eq!(subject.decompress(), Ok(()));
    }
}

/// A length that is impossible is an error.
#[test]
fn impossible_length_is_misbehavior() {
    let subject = Subject::new(false);
    for len in [0, BLOCK + 1, usize::MAX] {
        subject.next(Next::Compress(Fault::Claim(len)));
        let error = subject.compress().unwrap_err();
        assert_eq!(
            error,
            CodecError::Misbehaved(format!("claims {len} bytes in a buffer of {BLOCK}"))
        );
        assert_eq!(subject.contexts().0, 0);
    }
    assert_eq!(subject.compress(), Ok(Some(vec![5; BLOCK])));
}

/// A context that could not be made is made again when next needed.
#[test]
fn failed_context_is_made_again() {
    let subject = Subject::new(false);
    let mut failed = 0;
    for next in [
        Next::MakeContext(Fault::Error),
        Next::MakeContext(Fault::Panic),
        Next::PanicInBound,
        Next::PanicInBytesHeld,
        Next::Bound(usize::MAX),
    ] {
        subject.next(next);
        let called = |_: Option<&[u8]>| panic!("called without a context");
        assert!(subject.codec.compress(&[5; BLOCK], BLOCK, called).is_err(), "{next:?}");
        failed += 1;
        assert_eq!(subject.contexts(), (0, 0, failed));
    }
    subject.next(Next::MakeContext(Fault::Panic));
    assert_eq!(subject.decompress(), Err(CodecError::Panicked("on purpose".into())));
    assert_eq!(subject.decompress(), Ok(()));
    assert_eq!(subject.compress(), Ok(Some(vec![5; BLOCK])));
    assert_eq!(subject.contexts(), (2, 2, failed + 1));
}

/// A context that has grown is counted again; one that panics when asked is not.
#[test]
fn grown_context_is_recounted_unless_it_panics() {
    let subject = Subject::new(false);
    subject.compress().unwrap();
    subject.state.grown.store(500, SeqCst);
    subject.compress().unwrap();
    assert_eq!(subject.codec.stats().context_bytes, CONTEXT_AND_SCRATCH + 500);
    subject.next(Next::PanicInBytesHeld);
    assert!(subject.compress().is_ok());
    assert_eq!(subject.codec.stats().context_bytes, CONTEXT_AND_SCRATCH + 500);
    subject.state.grown.store(0, SeqCst);
    subject.compress().unwrap();
    assert_eq!(subject.contexts(), (1, 1, 0));
}

/// The bytes by which a context has grown count for its own kind.
#[test]
fn grown_context_counts_for_its_kind() {
    let (Subject { codec, state }, budget) = (Subject::new(false), Arc::new(ContextBudget::new()));
    let subject = Subject { codec: codec.with_budget(budget.clone()), state };
    subject.compress().unwrap();
    subject.decompress().unwrap();
    let (all, compression) = (budget.bytes(), budget.compression_bytes());
    subject.state.grown.store(500, SeqCst);
    subject.decompress().unwrap();
    assert_eq!((budget.bytes(), budget.compression_bytes()), (all + 500, compression));
    subject.compress().unwrap();
    assert_eq!((budget.bytes(), budget.compression_bytes()), (all + 1000, compression + 500));
}

/// A retired codec keeps no compression context until it is revived.
#[test]
fn retired_codec_keeps_no_compression_context() {
    let subject = Subject::new(false);
    subject.compress().unwrap();
    subject.decompress().unwrap();
    subject.codec.retire_compression();
    assert_eq!(subject.contexts(), (1, 2, 0), "only the one that decompresses");
    for made in 3..6 {
        assert_eq!(subject.compress(), Ok(Some(vec![5; BLOCK])), "but it still compresses");
        assert_eq!(subject.decompress(), Ok(()));
        assert_eq!(subject.contexts(), (1, made, 0));
    }
    subject.codec.revive_compression();
    subject.compress().unwrap();
    subject.compress().unwrap();
    assert_eq!(subject.contexts(), (2, 6, 0));
}

/// A panic in a context's drop is caught.
#[test]
fn panicking_context_drop_is_caught() {
    let subject = Subject::new(false);
    // Two contexts: the second is made while the first is leased.
    subject.codec.compress(&[1], 1, |_| subject.compress().unwrap()).unwrap();
    assert_eq!(subject.contexts().0, 2);
    subject.next(Next::PanicInDrop);
    subject.codec.retire_compression();
    assert_eq!(subject.contexts().0, 0, "the context after it was dropped, too");
}

/// A codec may be used from inside its own use.
#[test]
fn codec_is_reentrant() {
    let subject = Subject::new(false);
    let depth = 3 * 2 * cpu_shards();
    fn nest(subject: &Subject, depth: usize) {
        let bytes = [depth as u8; 7];
        let seen = subject.codec.compress(&bytes, BLOCK, |mine| {
            if depth > 0 {
                nest(subject, depth - 1);
            }
            mine.map(<[u8]>::to_vec)
        });
        assert_eq!(seen, Ok(Some(bytes.to_vec())), "the scratch is this call's own");
    }
    nest(&subject, depth);
    let (alive, made, _) = subject.contexts();
    assert_eq!(
        (alive, made),
        (2 * cpu_shards(), depth as u64 + 1),
        "as many are kept as there are cells"
    );
}

/// A caller that panics loses no context.
#[test]
fn panicking_caller_loses_no_context() {
    let subject = Subject::new(false);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _ = subject.codec.compress(&[5; BLOCK], BLOCK, |_| panic!("the caller's own"));
    }));
    assert!(unwound.is_err());
    subject.compress().unwrap();
    assert_eq!(subject.contexts(), (1, 1, 0));
    let too_long = catch_unwind(AssertUnwindSafe(|| {
        let _ = subject.codec.compress(&[5; BLOCK + 1], BLOCK, |_| ());
    }));
    assert!(too_long.is_err(), "a block over the maximum is the caller's bug");
}

/// More threads than cells share no context, and leave no more contexts than cells.
#[test]
fn threads_beyond_cells_share_no_context() {
    let subject = Subject::new(false);
    let threads = 3 * 2 * cpu_shards();
    let all_inside = Barrier::new(threads);
    std::thread::scope(|scope| {
        for i in 0..threads {
            let (subject, all_inside) = (&subject, &all_inside);
            scope.spawn(move || {
                let seen = subject.codec.compress(&[i as u8; 9], BLOCK, |bytes| {
                    all_inside.wait();
                    bytes.map(<[u8]>::to_vec)
                });
                assert_eq!(seen, Ok(Some(vec![i as u8; 9])));
            });
        }
    });
    assert_eq!(subject.contexts(), (2 * cpu_shards(), threads as u64, 0));
}

/// Retiring a codec while threads compress leaves no context behind.
#[test]
fn retiring_during_compression_leaves_nothing() {
    for _ in 0..50 {
        let subject = Subject::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    (0..50).for_each(|_| assert_eq!(subject.compress(), Ok(Some(vec![5; BLOCK]))))
                });
            }
            scope.spawn(|| {
                for _ in 0..5 {
                    subject.codec.retire_compression();
                    std::thread::yield_now();
                    subject.codec.revive_compression();
                }
                subject.codec.retire_compression();
            });
        });
        assert_eq!(subject.contexts().0, 0);
        assert_eq!(subject.codec.stats().context_bytes, 0);
    }
}

/// The policy belongs to the process, so only this test here sets it.
#[test]
fn only_making_and_freeing_contexts_may_block() {
    let subject = Subject::new(false);
    let before = set_check_policy(CheckPolicy::Panic);
    let inside = |what: &dyn Fn()| {
        let _section = NoBlock::enter();
        catch_unwind(AssertUnwindSafe(what)).is_ok()
    };
    assert!(!inside(&|| drop(subject.compress())), "makes a context");
    assert!(!inside(&|| drop(subject.decompress())), "makes a context");
    subject.compress().unwrap();
    subject.decompress().unwrap();
    assert!(inside(&|| drop(subject.compress())));
    assert!(inside(&|| drop(subject.decompress())));
    assert!(!inside(&|| subject.codec.retire_compression()), "frees contexts");
    set_check_policy(before);
    assert_eq!(subject.contexts(), (2, 2, 0));
}
