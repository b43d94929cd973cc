//! The values of several blocks that a shard's entries stand for: few, if any.
//!
//! An entry names its value by a number in this list. Numbers of values that went are handed out again.

use std::sync::Arc;

use crate::stored::Large;
use crate::table::NoRoom;

/// The list.
#[derive(Debug, Default)]
pub(crate) struct Values {
    list: Vec<Option<Arc<Large>>>,
    /// Numbers that no entry has. It has room for all there are, so that removing a value never needs memory.
    free: Vec<u32>,
}

impl Values {
    /// The value of this number, which an entry has.
    pub(crate) fn get(&self, number: [u8; 4]) -> &Arc<Large> {
        let value = self.list[u32::from_le_bytes(number) as usize].as_ref();
        value.expect("an entry's value is in the list")
    }

    /// One more value: its number. `bytes` grows by what it costs besides its objects.
    ///
    /// # Errors
    ///
    /// Gives the value back when there is no memory.
    pub(crate) fn enter(&mut self, value: Arc<Large>, bytes: &mut usize) -> Result<[u8; 4], Arc<Large>> {
        let before = self.bytes();
        let number = self.number();
        *bytes += self.bytes() - before;
        let Ok(number) = number else { return Err(value) };
        *bytes += value.heap_bytes();
        self.list[number as usize] = Some(value);
        Ok(number.to_le_bytes())
    }

    /// Takes the value of this number, which an entry had, out. `bytes` shrinks by what it cost.
    pub(crate) fn leave(&mut self, number: [u8; 4], bytes: &mut usize) -> Arc<Large> {
        let number = u32::from_le_bytes(number);
        let value = self.list[number as usize].take().expect("an entry's value is in the list");
        self.free.push(number);
        *bytes -= value.heap_bytes();
        value
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Large>> {
        self.list.iter().flatten()
    }

    /// Bytes of the list, without the values.
    pub(crate) fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<Option<Arc<Large>>>() + self.free.capacity() * size_of::<u32>()
    }

    /// A number that nobody has.
    fn number(&mut self) -> Result<u32, NoRoom> {
        if let Some(number) = self.free.pop() {
            return Ok(number);
        }
        let number = u32::try_from(self.list.len()).map_err(|_| NoRoom)?;
        self.list.try_reserve(1)?;
        self.free.try_reserve(self.list.len() + 1)?;
        self.list.push(None);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::Stored;

    fn value(parts: usize) -> Arc<Large> {
        let parts: Box<[Stored]> = (0..parts).map(|n| Stored::Same { word: n as u64, len: 8 }).collect();
        Arc::new(Large { len: 8 * parts.len(), parts })
    }

    #[test]
    fn numbers_are_used_again_and_every_byte_is_counted() {
        let (mut values, mut bytes, mut there) = (Values::default(), 0, Vec::new());
        for round in 0..2_000 {
            if round % 5 < 3 {
                let value = value(2 + round % 7);
                let number = values.enter(value.clone(), &mut bytes).unwrap();
                assert!(there.iter().all(|(other, _)| *other != number));
                there.push((number, value));
            } else {
                let (number, value) = there.swap_remove(round % there.len());
                assert_eq!(values.get(number).id(), value.id());
                assert_eq!(values.leave(number, &mut bytes).id(), value.id());
            }
            let heap: usize = values.iter().map(|value| value.heap_bytes()).sum();
            assert_eq!(bytes, values.bytes() + heap);
            assert_eq!(values.iter().count(), there.len());
            assert!(values.free.capacity() >= values.list.len());
        }
        assert!(values.list.len() < 500, "{} numbers for {} values", values.list.len(), there.len());
    }
}
