//! Run-length compressors behind a tag byte, each with one bug or one oddity.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};

use zpool_conformance::RleDriver;
use zpool_conformance::compressor::{COMPRESSOR_CASES, CompressorMaker};
use zpool_core::CreateError;
use zpool_core::compress::{
    CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor, CompressorDriver,
    DecompressionContext,
};
use zpool_core::spec::{Component, Params};
use zpool_testing::heap;

use crate::{Failed, Found, failure, try_each};

planted! {
    /// The bug or the oddity.
    enum Bug {
        bugs {
            // Destinations.
            ClaimsMoreThanItsDestination,
            ErrsWhereItDoesNotFit,
            ForgetsExpansionInItsBound,
            CutsOffWhatDoesNotFit,
            PanicsOnAShortDestination,
            MakesNothingOfZeros,
            // Contents.
            LosesTheLastByteOfOddBlocks,
            CountsIn16Bits,
            // Contexts.
            NumbersItsBlocks,
            AppendsTheBlockBefore,
            ScribblesTheBlockBefore,
            IsSpoiledByAShortDestination,
            StaysOnItsThread,
            MakesContextsForPagesOnly,
            AllocatesForEveryBlock,
            // Hostile bytes.
            LeavesTheRestAsItWas,
            AnswersWithTheBlockBefore,
            PanicsOnACutStream,
            HasErrorsOfItsOwn,
            // Facts.
            IsAnotherEachTime,
            TakesAnyParameter,
            SaysStateless,
        }
        oddities {
            Nothing,
            KeepsADecompressionContext,
            ScribblesZeros,
            NeverShrinks,
        }
    }
}

use Bug::*;

/// The findings of the suite.
pub(crate) fn found() -> Found {
    Found {
        what: "compressors",
        bugs: try_each(BUGS, first_failing),
        oddities: try_each(ODDITIES, first_failing),
    }
}

/// Returns the first case that fails for compressors with this bug.
fn first_failing(bug: Bug) -> Option<Failed> {
    // The whole suite takes seconds on a correct codec. A bug must be found by 1/10 of it.
    let maker = CompressorMaker::new(Driver(bug), "").rounds(10).heap_calls(heap::calls);
    let capabilities = maker.open().capabilities();
    let mut met = COMPRESSOR_CASES.iter().filter(|case| case.needs.met_by(capabilities, true));
    met.find_map(|case| failure(case.name, || (case.run)(&maker)))
}

#[derive(Debug)]
struct Driver(Bug);

/// `[tag] run-length form`. The tag is 0, and the form is one byte longer than the other.
#[derive(Debug)]
struct Planted {
    bug: Bug,
    identity: Component,
    inner: Arc<dyn Compressor>,
}

#[derive(Debug)]
struct Context {
    bug: Bug,
    inner: Box<dyn CompressionContext>,
    before: Vec<u8>,
    blocks: u8,
    spoiled: bool,
    home: ThreadId,
}

#[derive(Debug)]
struct Reader {
    bug: Bug,
    inner: Arc<dyn Compressor>,
    before: Vec<u8>,
}

impl CompressorDriver for Driver {
    fn name(&self) -> &str {
        "planted"
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let none = Params::default();
        let inner = RleDriver.open(if self.0 == TakesAnyParameter { &none } else { params })?;
        let mut identity = Component::named("planted");
        if self.0 == IsAnotherEachTime {
            // Relaxed: only uniqueness matters.
            identity.params.set("nth", OPENED.fetch_add(1, Ordering::Relaxed).to_string());
        }
        Ok(Arc::new(Planted { bug: self.0, identity, inner }))
    }
}

impl Compressor for Planted {
    fn identity(&self) -> &Component {
        &self.identity
    }

    fn capabilities(&self) -> CodecCapabilities {
        let capabilities = CodecCapabilities::new("MIT OR Apache-2.0").with_no_heap_once_warm();
        match self.bug {
            KeepsADecompressionContext | AnswersWithTheBlockBefore => capabilities,
            _ => capabilities.with_stateless_decompression(),
        }
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        match self.bug {
            ForgetsExpansionInItsBound => block_len,
            _ => 1 + 8 + self.inner.compress_bound(block_len),
        }
    }

    fn compression_context(
        &self,
        max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        if self.bug == MakesContextsForPagesOnly && max_block_size != 4096 {
            return Err(CodecError::Failed("one size fits all".to_owned()));
        }
        let inner = self.inner.compression_context(max_block_size)?;
        let before = Vec::with_capacity(max_block_size);
        let home = thread::current().id();
        Ok(Box::new(Context { bug: self.bug, inner, before, blocks: 0, spoiled: false, home }))
    }

    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        let before = Vec::with_capacity(1 << 17);
        Ok(Box::new(Reader { bug: self.bug, inner: self.inner.clone(), before }))
    }

    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        if self.bug == SaysStateless {
            return Err(CodecError::Failed("make a context first".to_owned()));
        }
        decompress(self.bug, &*self.inner, compressed, block)
    }
}

impl CompressionContext for Context {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        assert!(
            self.bug != StaysOnItsThread || self.home == thread::current().id(),
            "not my thread"
        );
        if self.bug == AllocatesForEveryBlock {
            drop(black_box(vec![0_u8; block.len()]));
        }
        let mut block = block;
        match self.bug {
            MakesNothingOfZeros if block.iter().all(|b| *b == 0) => return Ok(Compressed::Len(0)),
            CountsIn16Bits => block = &block[..usize::from(block.len() as u16)],
            _ => {}
        }
        let outcome = self.write(block, out);
        self.blocks = self.blocks.wrapping_add(1);
        self.before.clear();
        self.before.extend_from_slice(block);
        Ok(match (self.bug, outcome) {
            (_, Some(len)) => Compressed::Len(len),
            (ClaimsMoreThanItsDestination, None) => Compressed::Len(block.len() + 1),
            (ErrsWhereItDoesNotFit, None) => return Err(CodecError::Failed("no room".to_owned())),
            (CutsOffWhatDoesNotFit, None) if !out.is_empty() => Compressed::Len(out.len()),
            (PanicsOnAShortDestination, None) => panic!("index out of bounds"),
            (_, None) => {
                self.spoiled = true;
                Compressed::DoesNotFit
            }
        })
    }

    fn bytes_held(&self) -> usize {
        self.before.capacity()
    }
}

impl Context {
    /// Returns the length, if it fits.
    fn write(&mut self, block: &[u8], out: &mut [u8]) -> Option<usize> {
        let (tag, rest) = out.split_first_mut()?;
        *tag = match self.bug {
            NumbersItsBlocks => self.blocks,
            IsSpoiledByAShortDestination => u8::from(self.spoiled),
            _ => 0,
        };
        let mut len = 1;
        if self.bug == NeverShrinks {
            rest.get_mut(..block.len())?.copy_from_slice(block);
            return Some(len + block.len());
        }
        match self.inner.compress(block, rest) {
            Ok(Compressed::Len(inner)) => len += inner,
            _ => return None,
        }
        let tail = &mut out[len..];
        let before = self.before.iter().copied().chain(std::iter::repeat(0));
        match self.bug {
            AppendsTheBlockBefore => {
                tail.get_mut(..8)?.iter_mut().zip(before).for_each(|(to, from)| *to = from);
                len += 8;
            }
            ScribblesTheBlockBefore => {
                tail.iter_mut().zip(before).for_each(|(to, from)| *to = from)
            }
            ScribblesZeros => tail.fill(0),
            _ => {}
        }
        Some(len)
    }
}

impl DecompressionContext for Reader {
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        let outcome = decompress(self.bug, &*self.inner, compressed, block);
        if self.bug == AnswersWithTheBlockBefore
            && outcome.is_err()
            && self.before.len() == block.len()
        {
            block.copy_from_slice(&self.before);
            return Ok(());
        }
        self.before.clear();
        self.before.extend_from_slice(block);
        outcome
    }

    fn bytes_held(&self) -> usize {
        self.before.capacity()
    }
}

fn decompress(
    bug: Bug,
    inner: &dyn Compressor,
    compressed: &[u8],
    block: &mut [u8],
) -> Result<(), CodecError> {
    let corrupt = match bug {
        HasErrorsOfItsOwn => CodecError::Failed("unexpected end of input".to_owned()),
        _ => CodecError::Corrupt,
    };
    let Some((tag, mut rest)) = compressed.split_first() else { return Err(corrupt) };
    if *tag != 0 && bug != NumbersItsBlocks {
        return Err(corrupt);
    }
    match bug {
        NeverShrinks if rest.len() == block.len() => {
            block.copy_from_slice(rest);
            return Ok(());
        }
        NeverShrinks => return Err(corrupt),
        AppendsTheBlockBefore => rest = &rest[..rest.len().saturating_sub(8)],
        _ => {}
    }
    match inner.decompress(rest, block) {
        Ok(()) => {
            if let (LosesTheLastByteOfOddBlocks, 1, Some(last)) =
                (bug, block.len() % 2, block.last_mut())
            {
                *last = 0;
            }
            Ok(())
        }
        Err(_) if bug == LeavesTheRestAsItWas => Ok(()),
        Err(_) => {
            assert!(bug != PanicsOnACutStream, "index out of bounds");
            Err(corrupt)
        }
    }
}
