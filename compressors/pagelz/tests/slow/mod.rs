//! A decoder written from FORMAT.md alone: bit by bit and byte by byte, with nothing of the crate's
//! own code in it.

use std::collections::HashMap;

/// A model, as read from its file.
#[derive(Debug)]
pub(crate) struct SlowModel {
    /// Kind, literals, match length.
    codebook: Vec<(usize, usize, usize)>,
    /// The symbols of each of the 28 tables, by the length and the value of their codes.
    tables: Vec<HashMap<(usize, usize), u8>>,
}

const LITERALS: usize = 0;
const TOKENS: usize = 1;
const OFFSETS: usize = 2;
const EXTENSIONS: usize = 3;

impl SlowModel {
    pub(crate) fn new(file: &[u8]) -> SlowModel {
        assert_eq!(&file[..8], b"PLZMODL1");
        let count = usize::from(file[8]);
        let entry = |i: usize| {
            let (high, low) = (usize::from(file[9 + 2 * i]), usize::from(file[10 + 2 * i]));
            (high / 16, high % 16, low + 4)
        };
        let nibbles = file[9 + 2 * count..].iter().flat_map(|&byte| [byte % 16, byte / 16]);
        let nibbles: Vec<usize> = nibbles.map(usize::from).collect();
        SlowModel {
            codebook: (0..count).map(entry).collect(),
            tables: nibbles.chunks(256).map(canonical).collect(),
        }
    }

    /// Returns the block that the bytes stand for, or `None` if they are corrupt.
    pub(crate) fn decode(&self, input: &[u8], block_len: usize) -> Option<Vec<u8>> {
        let flags = *input.first()?;
        if flags > 15 {
            return None;
        }
        let coded = |stream: usize| flags >> stream & 1 == 1;
        let mut at = 1;
        let mut counts = [0; 4];
        for stream in [TOKENS, OFFSETS, EXTENSIONS] {
            counts[stream] = number(input, &mut at)?;
        }
        let far = if block_len > 65_536 { 3 } else { 2 };
        let most = [block_len, block_len / 4, block_len / 4 * far, block_len / 4];

        let mut tables = 0;
        let mut differences = [0i64; 3];
        if flags == 0 {
            let others = counts.iter().sum::<usize>() + at;
            counts[LITERALS] = input.len().checked_sub(others)?;
        } else {
            counts[LITERALS] = number(input, &mut at)?;
            tables = usize::from(*input.get(at)?) + 256 * usize::from(*input.get(at + 1)?);
            at += 2;
            for difference in &mut differences {
                let folded = number(input, &mut at)? as i64;
                *difference = if folded % 2 == 0 { folded / 2 } else { -(folded + 1) / 2 };
            }
        }
        if (1..4).any(|stream| counts[stream] > most[stream]) {
            return None;
        }
        // Without coded streams, the number of literals is the bytes that are left, and must not
        // exceed its maximum.
        if flags != 0 && counts[LITERALS] > most[LITERALS] {
            return None;
        }

        let mut streams = [const { Vec::new() }; 4];
        for stream in [LITERALS, OFFSETS, EXTENSIONS, TOKENS] {
            if !coded(stream) {
                streams[stream] = input.get(at..at + counts[stream])?.to_vec();
                at += counts[stream];
            }
        }
        let mut xored = false;
        if flags != 0 {
            let chosen = [tables % 16, tables / 16 % 4, tables / 64 % 4, tables / 256 % 4];
            let first = [0, 16, 20, 24];
            if tables >= 1024 || (0..4).any(|stream| !coded(stream) && chosen[stream] != 0) {
                return None;
            }
            let mut lanes = Lanes::new(input.get(at..)?, differences)?;
            for stream in 0..4 {
                if coded(stream) {
                    let table = &self.tables[first[stream] + chosen[stream]];
                    for symbol in 0..counts[stream] {
                        streams[stream].push(lanes.symbol(symbol % 4, table)?);
                    }
                }
            }
            lanes.finish()?;
            xored = chosen[LITERALS] >= 8;
        }
        self.put_together(&streams, xored, block_len)
    }

    fn put_together(&self, streams: &[Vec<u8>; 4], xored: bool, len: usize) -> Option<Vec<u8>> {
        let far = if len > 65_536 { 3 } else { 2 };
        let mut block = Vec::new();
        let (mut literal, mut offset_at, mut extension) = (0, 0, 0);
        let mut offset = 8;
        let mut add_literals = |block: &mut Vec<u8>, count: usize, offset: usize| {
            for _ in 0..count {
                let mut byte = *streams[LITERALS].get(literal)?;
                if xored && block.len() >= offset {
                    byte ^= block[block.len() - offset];
                }
                block.push(byte);
                literal += 1;
                if block.len() > len {
                    return None;
                }
            }
            Some(())
        };
        for &token in &streams[TOKENS] {
            let token = usize::from(token);
            let (kind, literals, length) = match token {
                0..32 => {
                    let more = usize::from(*streams[EXTENSIONS].get(extension)?);
                    extension += 1;
                    (token / 8, token % 8, 4 + more)
                }
                32..36 => {
                    let literals = number(&streams[EXTENSIONS], &mut extension)?;
                    let more = number(&streams[EXTENSIONS], &mut extension)?;
                    (token - 32, literals, 4 + more)
                }
                _ => *self.codebook.get(token - 36)?,
            };
            let bytes = [0, 1, 1, far][kind];
            let stored = streams[OFFSETS].get(offset_at..offset_at + bytes)?;
            offset_at += bytes;
            let value = stored.iter().rev().fold(0, |value, &byte| 256 * value + usize::from(byte));
            match kind {
                0 => {}
                1 => offset = 8 * (value + 1),
                2 => offset = value + 8,
                _ => offset = value + 8,
            }
            add_literals(&mut block, literals, offset)?;
            if offset > block.len() || length > len - block.len() {
                return None;
            }
            for _ in 0..length {
                block.push(block[block.len() - offset]);
            }
        }
        let rest = len - block.len();
        add_literals(&mut block, rest, offset)?;
        let used = literal == streams[LITERALS].len()
            && offset_at == streams[OFFSETS].len()
            && extension == streams[EXTENSIONS].len();
        used.then_some(block)
    }
}

/// Returns the codes of a table, in the order of length and then of symbol.
fn canonical(lengths: &[usize]) -> HashMap<(usize, usize), u8> {
    let (mut codes, mut next) = (HashMap::new(), 0);
    for length in 1..=10 {
        next *= 2;
        for symbol in (0..256).filter(|&symbol| lengths[symbol] == length) {
            codes.insert((length, next), symbol as u8);
            next += 1;
        }
    }
    codes
}

/// Reads a number as FORMAT.md says.
fn number(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let first = usize::from(*bytes.get(*at)?);
    *at += 1;
    let mut next = || {
        *at += 1;
        bytes.get(*at - 1).copied().map(usize::from)
    };
    match first {
        0..192 => Some(first),
        192..255 => Some(192 + 256 * (first - 192) + next()?),
        _ => {
            let mut value = 0;
            for place in 0..4 {
                value += next()? << (8 * place);
            }
            Some(value)
        }
    }
}

/// The lanes, each with the position of its next bit.
struct Lanes<'a> {
    lanes: [&'a [u8]; 4],
    at: [usize; 4],
}

impl<'a> Lanes<'a> {
    fn new(bytes: &'a [u8], differences: [i64; 3]) -> Option<Lanes<'a>> {
        let (quarter, mut rest) = (bytes.len() as i64 / 4, bytes);
        let mut lanes = [rest; 4];
        for (lane, difference) in lanes.iter_mut().zip(differences) {
            let len = usize::try_from(quarter + difference).ok()?;
            (*lane, rest) = rest.split_at_checked(len)?;
        }
        lanes[3] = rest;
        Some(Lanes { lanes, at: [0; 4] })
    }

    fn bit(&mut self, lane: usize) -> Option<usize> {
        let at = self.at[lane];
        self.at[lane] += 1;
        Some(usize::from(*self.lanes[lane].get(at / 8)? >> (at % 8) & 1))
    }

    /// Reads a code bit by bit.
    fn symbol(&mut self, lane: usize, table: &HashMap<(usize, usize), u8>) -> Option<u8> {
        let mut code = 0;
        for length in 1..=10 {
            code = 2 * code + self.bit(lane)?;
            if let Some(&symbol) = table.get(&(length, code)) {
                return Some(symbol);
            }
        }
        unreachable!("the code is complete")
    }

    fn finish(&self) -> Option<()> {
        let read = |(at, lane): (&usize, &&[u8])| at.div_ceil(8) == lane.len();
        self.at.iter().zip(&self.lanes).all(read).then_some(())
    }
}
