//! Prefix codes of at most [`MAX_BITS`] bits over bytes.
//!
//! The codes are canonical: shorter codes come first, and codes of equal length are in the order of
//! their symbols. Bit streams begin with the low bit of each byte, so a code is written with its
//! first bit lowest.

/// The longest code in bits. Decoding looks up this many bits at once.
pub(crate) const MAX_BITS: u32 = 10;

/// Entries of a decoding table.
pub(crate) const DECODE_ENTRIES: usize = 1 << MAX_BITS;

/// The length of each symbol's code. Every symbol has one.
pub(crate) type Lengths = [u8; 256];

/// Returns whether these are the lengths of a complete code, by which any sequence of bits decodes
/// to symbols.
pub(crate) fn is_complete(lengths: &Lengths) -> bool {
    let possible = |&length: &u8| (1..=MAX_BITS).contains(&u32::from(length));
    lengths.iter().all(possible)
        && lengths.iter().map(|&length| DECODE_ENTRIES >> length).sum::<usize>() == DECODE_ENTRIES
}

/// Calls `with` for each symbol with its code, first bit lowest, and the code's length.
pub(crate) fn for_each_code(lengths: &Lengths, mut with: impl FnMut(u8, u16, u32)) {
    let mut next = 0u32;
    for length in 1..=MAX_BITS {
        next <<= 1;
        for symbol in 0..=u8::MAX {
            if u32::from(lengths[usize::from(symbol)]) == length {
                let reversed = next.reverse_bits() >> (u32::BITS - length);
                with(symbol, reversed as u16, length);
                next += 1;
            }
        }
    }
}

/// Fills a decoding table. It has, for each value of [`MAX_BITS`] bits, the symbol shifted left by
/// 8 and its code's length.
pub(crate) fn fill_decoding(lengths: &Lengths, table: &mut [u16; DECODE_ENTRIES]) {
    for_each_code(lengths, |symbol, code, length| {
        let entry = u16::from(symbol) << 8 | length as u16;
        for place in table.iter_mut().skip(usize::from(code)).step_by(1 << length) {
            *place = entry;
        }
    });
}

/// Fills an encoding table. It has, for each symbol, its code and the code's length shifted left by
/// 16.
pub(crate) fn fill_encoding(lengths: &Lengths, table: &mut [u32; 256]) {
    for_each_code(lengths, |symbol, code, length| {
        table[usize::from(symbol)] = u32::from(code) | length << 16;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lengths of a very uneven complete code. (Lengths 1 to 9 once each would leave
    /// too few codes for the other symbols.)
    fn uneven() -> Lengths {
        // One symbol has 1 bit. The other 255 share the other half, which has 2^9 codes of 10 bits.
        let mut lengths = [9; 256];
        lengths[0] = 1;
        lengths[255] = 8;
        lengths
    }

    #[test]
    fn complete_codes_are_told_from_others() {
        assert!(is_complete(&[8; 256]));
        assert!(is_complete(&uneven()));
        assert!(!is_complete(&[9; 256]));
        assert!(!is_complete(&[7; 256]));
        let mut lengths = [8; 256];
        lengths[3] = 0;
        assert!(!is_complete(&lengths));
    }

    /// Each code, followed by any bits, is looked up as its symbol.
    #[test]
    fn decoding_table_inverts_encoding_table() {
        for lengths in [[8; 256], uneven()] {
            let (mut decoding, mut encoding) = ([0; DECODE_ENTRIES], [0; 256]);
            fill_decoding(&lengths, &mut decoding);
            fill_encoding(&lengths, &mut encoding);
            for (symbol, &entry) in encoding.iter().enumerate() {
                let (code, length) = (entry & 0xFFFF, entry >> 16);
                for rest in 0..DECODE_ENTRIES >> length {
                    let found = decoding[code as usize | rest << length];
                    assert_eq!(
                        (usize::from(found >> 8), u32::from(found & 0xFF)),
                        (symbol, length)
                    );
                }
            }
        }
    }
}
