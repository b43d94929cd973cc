//! Run-length coding, the smallest codec that compresses.
//!
//! ```text
//!   compressed := { literals | run }
//!   literals   := n (0 ..= 127), then n + 1 bytes as they are
//!   run        := n (128 ..= 255), then one byte, which stands for n - 125 of it (3 ..= 130)
//! ```
//!
//! A run pays for its own control byte and for that of the literals before it, because at least
//! three bytes become two. Only the literals at the end, and one control byte for each 128 of them,
//! can make a block longer. That is [`bound`].

use std::sync::Arc;

use zpool_core::CreateError;
use zpool_core::compress::{
    CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor, CompressorDriver,
};
use zpool_core::spec::{Component, Params};

use crate::null::refuse_all;

/// The control byte of the shortest run.
const RUN: u8 = 128;
/// A run of two bytes would save nothing.
const SHORTEST_RUN: usize = 3;
const LONGEST_RUN: usize = SHORTEST_RUN + (u8::MAX - RUN) as usize;
const MOST_LITERALS: usize = RUN as usize;

/// Makes run-length compressors, under the name `rle`. No parameters.
///
/// It shrinks blocks of zeros and little else. Tests use it for compressed lengths that differ, and
/// it is an example of a codec with a format of its own. The decoder checks every length and writes
/// each byte of the block once, or returns [`CodecError::Corrupt`].
///
/// ```
/// use zpool_conformance::RleDriver;
/// use zpool_core::compress::{Codec, CompressorDriver};
///
/// let codec = Codec::new(RleDriver.open(&Default::default())?, 4096);
/// let run = codec.compress(&[7; 100], 4096, |bytes| bytes.map(<[u8]>::to_vec))?.expect("it fits");
/// assert_eq!(run, [128 + 97, 7]);
/// let mut block = [0; 100];
/// codec.decompress(&run, &mut block)?;
/// assert_eq!(block, [7; 100]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RleDriver;

impl RleDriver {
    /// The compressor's name in a spec.
    pub const NAME: &'static str = "rle";
}

#[derive(Debug)]
struct Rle {
    identity: Component,
}

/// The coder never looks back, so the context is empty.
#[derive(Debug)]
struct RleContext;

impl CompressorDriver for RleDriver {
    fn name(&self) -> &str {
        RleDriver::NAME
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        refuse_all(params)?;
        Ok(Arc::new(Rle { identity: Component::named(RleDriver::NAME) }))
    }
}

impl Compressor for Rle {
    fn identity(&self) -> &Component {
        &self.identity
    }

    fn capabilities(&self) -> CodecCapabilities {
        CodecCapabilities::new("MIT OR Apache-2.0")
            .with_stateless_decompression()
            .with_no_heap_once_warm()
    }

    fn compress_bound(&self, block_len: usize) -> usize {
        bound(block_len)
    }

    fn compression_context(
        &self,
        _max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError> {
        Ok(Box::new(RleContext))
    }

    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        decode(compressed, block).ok_or(CodecError::Corrupt)
    }
}

impl CompressionContext for RleContext {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        Ok(encode(block, out).map_or(Compressed::DoesNotFit, Compressed::Len))
    }

    fn bytes_held(&self) -> usize {
        0
    }
}

/// Returns the longest compressed form, as the module explains.
fn bound(block_len: usize) -> usize {
    block_len.saturating_add(block_len / MOST_LITERALS + 1)
}

/// Returns the length of the compressed form, or `None` if it does not fit.
fn encode(block: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut out = Writer { out, at: 0 };
    let (mut literals, mut rest) = (0, block);
    while let Some(&byte) = rest.get(literals) {
        let run = rest[literals..].iter().take(LONGEST_RUN).take_while(|&&b| b == byte).count();
        if run < SHORTEST_RUN {
            literals += run;
            continue;
        }
        out.literals(&rest[..literals])?;
        out.put(&[RUN + (run - SHORTEST_RUN) as u8, byte])?;
        (rest, literals) = (&rest[literals + run..], 0);
    }
    out.literals(rest)?;
    Some(out.at)
}

/// Fills the whole of `block`. Returns `None` if `compressed` makes more or fewer bytes.
fn decode(mut compressed: &[u8], mut block: &mut [u8]) -> Option<()> {
    while let Some((&control, rest)) = compressed.split_first() {
        let len = match control {
            ..RUN => usize::from(control) + 1,
            _ => usize::from(control - RUN) + SHORTEST_RUN,
        };
        let (filled, unfilled) = block.split_at_mut_checked(len)?;
        compressed = if control < RUN {
            let (literals, rest) = rest.split_at_checked(len)?;
            filled.copy_from_slice(literals);
            rest
        } else {
            let (&byte, rest) = rest.split_first()?;
            filled.fill(byte);
            rest
        };
        block = unfilled;
    }
    block.is_empty().then_some(())
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn literals(&mut self, literals: &[u8]) -> Option<()> {
        for group in literals.chunks(MOST_LITERALS) {
            self.put(&[(group.len() - 1) as u8])?;
            self.put(group)?;
        }
        Some(())
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.out.get_mut(self.at..self.at + bytes.len())?.copy_from_slice(bytes);
        self.at += bytes.len();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(block: &[u8]) -> Vec<u8> {
        let mut out = vec![0; bound(block.len())];
        let len = encode(block, &mut out).expect("fits the bound");
        out.truncate(len);
        out
    }

    #[test]
    fn runs_and_literals_take_turns() {
        assert_eq!(encoded(b"abbcccd"), [2, b'a', b'b', b'b', RUN, b'c', 0, b'd']);
        assert_eq!(encoded(&[9; LONGEST_RUN + 1]), [u8::MAX, 9, 0, 9]);
        assert_eq!(encoded(&[9; 2]), [1, 9, 9]);
    }

    /// Compressed bytes that make fewer or more bytes than the block are corrupt.
    #[test]
    fn decode_wrong_length_is_none() {
        for bytes in [&[][..], &[0], &[1, b'a'], &[RUN], &[0, b'a', 0, b'b', 0, b'c'], &[RUN, b'a']]
        {
            assert_eq!(decode(bytes, &mut [0; 2]), None, "{bytes:?}");
        }
        assert_eq!(decode(&[1, b'a', b'b'], &mut [0; 2]), Some(()));
    }
}
