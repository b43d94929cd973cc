//! The values of several blocks that a shard's entries stand for: few, if any.
//!
//! An entry names its value by a number in this list. Numbers of removed values are used again.

use zpool_core::PoolId;
use zpool_core::internal::TryArc;

use crate::index::table::NoRoom;
use crate::value::{LargeValue, Value};

/// Places that an empty list keeps.
const KEPT: usize = 64;

/// The list.
#[derive(Debug, Default)]
pub(crate) struct LargeValues {
    list: Vec<Option<TryArc<LargeValue>>>,
    /// Numbers that no entry has. It has room for all there are, so that removing a value needs no
    /// memory.
    free: Vec<u32>,
    /// How many blocks of the values are in each pool, oldest pool first.
    blocks: Vec<(PoolId, usize)>,
}

impl LargeValues {
    /// Returns the value of this number, which an entry has.
    pub(crate) fn get(&self, number: [u8; 4]) -> &TryArc<LargeValue> {
        let value = self.list[u32::from_le_bytes(number) as usize].as_ref();
        value.expect("an entry's value is in the list")
    }

    /// Adds a value and returns its number. `bytes` grows by the value's cost, except that of its
    /// objects.
    ///
    /// # Errors
    ///
    /// Returns the value if there is no memory.
    pub(crate) fn insert(
        &mut self,
        value: TryArc<LargeValue>,
        bytes: &mut usize,
    ) -> Result<[u8; 4], TryArc<LargeValue>> {
        let before = self.bytes();
        let number = self.reserve_blocks(&value).and_then(|()| self.number());
        *bytes += self.bytes() - before;
        let Ok(number) = number else { return Err(value) };
        *bytes += value.heap_bytes();
        for pool in pools_of(&value) {
            match self.find(pool) {
                Ok(at) => self.blocks[at].1 += 1,
                Err(at) => self.blocks.insert(at, (pool, 1)),
            }
        }
        self.list[number as usize] = Some(value);
        Ok(number.to_le_bytes())
    }

    /// Removes the value of this number, which an entry had. `bytes` shrinks by the value's cost.
    pub(crate) fn remove(&mut self, number: [u8; 4], bytes: &mut usize) -> TryArc<LargeValue> {
        let number = u32::from_le_bytes(number);
        let value = self.list[number as usize].take().expect("an entry's value is in the list");
        self.free.push(number);
        *bytes -= value.heap_bytes();
        for pool in pools_of(&value) {
            let at = self.find(pool).expect("the pool of a value's block is counted");
            self.blocks[at].1 -= 1;
            if self.blocks[at].1 == 0 {
                self.blocks.remove(at);
            }
        }
        if self.free.len() == self.list.len() && self.free.len() > KEPT {
            *bytes -= self.bytes();
            *self = LargeValues::default();
        }
        value
    }

    /// Counts the blocks of values by pool.
    pub(crate) fn blocks(&self) -> &[(PoolId, usize)] {
        &self.blocks
    }

    /// Returns the bytes of the lists, without the values.
    pub(crate) fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<Option<TryArc<LargeValue>>>()
            + self.free.capacity() * size_of::<u32>()
            + self.blocks.capacity() * size_of::<(PoolId, usize)>()
    }

    /// Returns a number that no entry has.
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

    /// Makes room for the pools of `value` that have no block yet: hardly ever more than one.
    fn reserve_blocks(&mut self, value: &LargeValue) -> Result<(), NoRoom> {
        let (mut new, mut latest) = (0, None);
        for pool in pools_of(value) {
            if latest != Some(pool) && self.find(pool).is_err() {
                new += 1;
            }
            latest = Some(pool);
        }
        Ok(self.blocks.try_reserve(new)?)
    }

    fn find(&self, pool: PoolId) -> Result<usize, usize> {
        self.blocks.binary_search_by_key(&pool, |&(id, _)| id)
    }
}

/// Iterates over the pools that the blocks of a value are in, one for each block.
fn pools_of(value: &LargeValue) -> impl Iterator<Item = PoolId> {
    value.parts.iter().filter_map(|part| match part {
        Value::Pooled(block) => Some(block.object.pool().id()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(parts: usize) -> TryArc<LargeValue> {
        let parts: Box<[Value]> =
            (0..parts).map(|n| Value::SameFilled { word: n as u64, len: 8 }).collect();
        TryArc::try_new(LargeValue { len: 8 * parts.len(), parts }).unwrap()
    }

    #[test]
    fn numbers_are_used_again_and_every_byte_is_counted() {
        let (mut values, mut bytes, mut there) = (LargeValues::default(), 0, Vec::new());
        for round in 0..2_000 {
            if round % 5 < 3 {
                let value = value(2 + round % 7);
                let number = values.insert(value.clone(), &mut bytes).unwrap();
                assert!(there.iter().all(|(other, _)| *other != number));
                there.push((number, value));
            } else {
                let (number, value) = there.swap_remove(round % there.len());
                assert_eq!(values.get(number).id(), value.id());
                assert_eq!(values.remove(number, &mut bytes).id(), value.id());
            }
            let heap: usize = there.iter().map(|(_, value)| value.heap_bytes()).sum();
            assert_eq!(bytes, values.bytes() + heap);
            assert_eq!(values.list.iter().flatten().count(), there.len());
            assert!(values.free.capacity() >= values.list.len());
        }
        assert!(
            values.list.len() < 500,
            "{} numbers for {} values",
            values.list.len(),
            there.len()
        );
    }
}
