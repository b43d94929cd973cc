//! Any bytes for the decoder of lz4 and for that of `lz4_flex`: both read the same, or both refuse.
#![no_main]

use lz4_flex::block::decompress_into;
use zpool_core::compress::{CodecError, Compressor};
use zpool_lz4::Lz4Compressor;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [low, high, bytes @ ..] = bytes else { return };
    let len = usize::from(u16::from_le_bytes([*low, *high])) + 1;
    let (mut ours, mut expected) = (vec![0x5A; len], vec![0xA5; len]);
    let outcome = Lz4Compressor::new().decompress(bytes, &mut ours);
    match decompress_into(bytes, &mut expected) {
        Ok(read) if read == len => assert!(outcome == Ok(()) && ours == expected),
        _ => assert_eq!(outcome, Err(CodecError::Corrupt)),
    }
});
