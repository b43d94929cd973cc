//! Any bytes for pagelz and for the slow decoder of its format: both read the same, or both refuse.
#![no_main]

use std::cell::RefCell;

use zpool_core::compress::{CodecError, Compressor, DecompressionContext};
use zpool_pagelz::PagelzCompressor;

use crate::slow::SlowModel;

#[path = "../../compressors/pagelz/tests/slow/mod.rs"]
mod slow;

const MODEL: &[u8] = include_bytes!("../../compressors/pagelz/src/generic.model");

struct Both {
    slow: SlowModel,
    context: Box<dyn DecompressionContext>,
}

thread_local!(static BOTH: RefCell<Both> = RefCell::new(both()));

fn both() -> Both {
    let codec = PagelzCompressor::new(3).expect("a level");
    Both { slow: SlowModel::new(MODEL), context: codec.decompression_context().expect("memory") }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [low, high, bytes @ ..] = bytes else { return };
    let len = usize::from(u16::from_le_bytes([*low, *high])) + 1;
    BOTH.with_borrow_mut(|Both { slow, context }| {
        let mut block = vec![0xA5; len];
        let outcome = context.decompress(bytes, &mut block);
        match slow.decode(bytes, len) {
            Some(expected) => assert!(outcome == Ok(()) && block == expected),
            None => assert_eq!(outcome, Err(CodecError::Corrupt)),
        }
    });
});
