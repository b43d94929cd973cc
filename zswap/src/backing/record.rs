//! The bytes of a segment: records, and a directory of them at its end.
//!
//! ```text
//!   segment     | record | record | ... | padding | directory: 12 bytes each | footer: 16 |
//!   record      | checksum 4 | segment's id 4 | hash of the key 8 | object ... | to the unit |
//!   directory   | hash of the key 8 | offset of the record in units 4 |
//!   footer      | checksum 4 | segment's id 4 | records 4 | mark 4 |
//! ```
//!
//! Keys are not written. A record has what distinguishes it from others: a recycled segment has
//! another id, a misdirected read another hash, and damaged bytes another checksum. The directory
//! is a hint for the code that drops or compacts the segment: without it, entries of a dropped
//! segment stay until they are looked up.
//!
//! Whatever bytes come back from a backing store, reading them neither panics nor reads beyond
//! them.

use crate::value::checksum::checksum;
use crate::value::tier_place::PlaceParts;

/// Bytes in front of a record's object.
pub(crate) const HEADER: usize = 16;
/// Bytes of a record in the directory, and of the footer.
pub(crate) const DIRECTORY_ITEM: usize = 12;
pub(crate) const FOOTER: usize = 16;

/// Marks a footer.
const MARK: u32 = u32::from_le_bytes(*b"zseg");

/// Length of the "block" in the checksum of a directory.
const DIRECTORY_LEN: usize = usize::MAX;

/// Returns the bytes of a record with an object of `object_len` bytes, in units of `unit`.
#[inline]
pub(crate) fn record_len(object_len: usize, unit: usize) -> usize {
    (HEADER + object_len).next_multiple_of(unit)
}

/// Writes a record to the front of `into`, up to its unit. `sum` is the checksum of the object and
/// the block's length.
pub(crate) fn write_record(into: &mut [u8], segment: u32, hash: u64, sum: u32, object: &[u8]) {
    let (header, rest) = into.split_at_mut(HEADER);
    header[..4].copy_from_slice(&sum.to_le_bytes());
    header[4..8].copy_from_slice(&segment.to_le_bytes());
    header[8..].copy_from_slice(&hash.to_le_bytes());
    let (body, padding) = rest.split_at_mut(object.len());
    body.copy_from_slice(object);
    padding.fill(0);
}

/// Returns the object of the record at the front of `bytes`, with its checksum, if it is the one
/// that `place` and `hash` name.
#[inline]
pub(crate) fn read_record<'r>(
    bytes: &'r [u8],
    place: &PlaceParts,
    hash: u64,
) -> Option<(&'r [u8], u32)> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let object = rest.get(..place.object_len)?;
    let sum = word(header, 0)?;
    let theirs = u64::from_le_bytes(header[8..].try_into().ok()?);
    let is_it = word(header, 4)? == place.segment
        && theirs == hash
        && sum == checksum(object, place.block_len);
    is_it.then_some((object, sum))
}

/// A record in a segment's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectoryItem {
    /// Hash of the key.
    pub(crate) hash: u64,
    /// Units from the segment's beginning.
    pub(crate) offset: u16,
}

/// Returns the bytes of the directory of `records` records, footer included.
pub(crate) fn directory_len(records: usize) -> usize {
    records * DIRECTORY_ITEM + FOOTER
}

/// Writes a directory into `into`, which is as long as the directory.
pub(crate) fn write_directory(
    into: &mut [u8],
    segment: u32,
    items: impl Iterator<Item = DirectoryItem>,
) {
    let end = into.len() - FOOTER;
    let (list, footer) = into.split_at_mut(end);
    let mut records = 0u32;
    for (into, item) in list.chunks_exact_mut(DIRECTORY_ITEM).zip(items) {
        into[..8].copy_from_slice(&item.hash.to_le_bytes());
        into[8..].copy_from_slice(&u32::from(item.offset).to_le_bytes());
        records += 1;
    }
    footer[..4].copy_from_slice(&checksum(list, DIRECTORY_LEN).to_le_bytes());
    footer[4..8].copy_from_slice(&segment.to_le_bytes());
    footer[8..12].copy_from_slice(&records.to_le_bytes());
    footer[12..].copy_from_slice(&MARK.to_le_bytes());
}

/// Returns the items of the directory that `bytes` are, if it is that of `segment`.
pub(crate) fn read_directory(
    bytes: &[u8],
    segment: u32,
) -> Option<impl ExactSizeIterator<Item = DirectoryItem> + Clone> {
    let (list, footer) = bytes.split_at_checked(bytes.len().checked_sub(FOOTER)?)?;
    let is_it = word(footer, 0)? == checksum(list, DIRECTORY_LEN)
        && word(footer, 4)? == segment
        && word(footer, 8)? as usize * DIRECTORY_ITEM == list.len()
        && word(footer, 12)? == MARK;
    let (items, _) = list.as_chunks::<DIRECTORY_ITEM>();
    is_it.then(|| {
        items.iter().map(|item| {
            let [a, b, c, d, e, f, g, h, low, high, ..] = *item;
            DirectoryItem {
                hash: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                offset: u16::from_le_bytes([low, high]),
            }
        })
    })
}

/// Returns the word at `at`.
#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tier_place::CodecNumber;

    const HASH: u64 = 0x0123_4567_89AB_CDEF;

    fn place(object_len: usize) -> PlaceParts {
        let codec = CodecNumber::RAW;
        PlaceParts { segment: 7, offset: 0, block_len: 4096, object_len, codec }
    }

    fn record(object: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xAA; record_len(object.len(), 16)];
        write_record(&mut bytes, 7, HASH, checksum(object, 4096), object);
        bytes
    }

    /// A record comes back, and no other place, hash, length or flipped bit passes for it.
    #[test]
    fn record_of_another_place_or_hash_is_refused() {
        let object: Vec<u8> = (0..300u32).map(|n| ((n * n) >> 3) as u8).collect();
        let mut bytes = record(&object);
        let sum = checksum(&object, 4096);
        assert_eq!(read_record(&bytes, &place(300), HASH), Some((&object[..], sum)));
        let other = |change: fn(&mut PlaceParts)| {
            let mut place = place(300);
            change(&mut place);
            place
        };
        for wrong in [
            other(|place| place.segment = 8),
            other(|place| place.block_len = 4095),
            other(|place| place.object_len = 299),
            other(|place| place.object_len = 200_000),
        ] {
            assert_eq!(read_record(&bytes, &wrong, HASH), None, "{wrong:?}");
        }
        assert_eq!(read_record(&bytes, &place(300), HASH ^ 1), None);
        for bit in 0..8 * (HEADER + object.len()) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_record(&bytes, &place(300), HASH), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..HEADER + object.len() {
            assert_eq!(read_record(&bytes[..len], &place(300), HASH), None, "{len} bytes");
        }
    }

    /// A directory comes back, and neither a damaged nor a foreign one does.
    #[test]
    fn damaged_directory_is_refused() {
        let items: Vec<_> =
            (0..50).map(|n| DirectoryItem { hash: HASH * (n + 1), offset: n as u16 * 3 }).collect();
        let mut bytes = vec![0; directory_len(items.len())];
        write_directory(&mut bytes, 9, items.iter().copied());
        let read = |bytes: &[u8], segment| {
            read_directory(bytes, segment).map(|items| items.collect::<Vec<_>>())
        };
        assert_eq!(read(&bytes, 9), Some(items));
        assert_eq!(read(&bytes, 10), None);
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len], 9), None, "the first {len} bytes");
            assert_eq!(read(&bytes[bytes.len() - len..], 9), None, "the last {len} bytes");
        }
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bytes, 9), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let mut none = vec![1; directory_len(0)];
        write_directory(&mut none, 9, std::iter::empty());
        assert_eq!(read(&none, 9), Some(vec![]));
    }

    /// Random bytes are no record and no directory, and neither call panics on them.
    #[test]
    fn hostile_bytes_are_refused() {
        let mut state = 1u64;
        for len in 0..2000 {
            let bytes: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            assert!(read_record(&bytes, &place(1 + len), HASH).is_none());
            assert!(read_directory(&bytes, 7).is_none());
        }
    }
}
