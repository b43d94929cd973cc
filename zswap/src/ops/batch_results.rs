//! The results of a batch: a list, or a single error if there was no memory for the list.

use std::fmt;
use std::iter::Chain;
use std::ops::Deref;
use std::{option, slice, vec};

use crate::value::error::{Error, ErrorKind};

/// The result of an item of a batch.
type Item<T, K> = Result<T, Error<K>>;

/// Results of the items of a batch, in their order: of [`store_many`](crate::Store::store_many) or
/// [`load_many`](crate::Store::load_many). Derefs to a slice.
///
/// There is one for each item, with one exception. If there is no memory for the list, the last
/// result is [`ErrorKind::ResultsOutOfMemory`] under the key of the first item without one: that
/// item failed, and so did all after it. So `iter().all(Result::is_ok)` is true only if all items
/// succeeded.
#[derive(Clone)]
#[must_use = "items may have failed"]
pub struct BatchResults<T, K> {
    outcomes: Outcomes<T, K>,
}

#[derive(Clone)]
enum Outcomes<T, K> {
    List(Vec<Item<T, K>>),
    /// There was no memory for a list.
    One(Item<T, K>),
}

impl<T, K> BatchResults<T, K> {
    /// As many results as there are `keys`, each made by `fill`; or the error under the first key.
    pub(crate) fn filled(keys: &[K], fill: impl FnMut() -> Item<T, K>) -> Result<Self, Self>
    where
        K: Clone,
    {
        let mut list = Vec::new();
        match (list.try_reserve_exact(keys.len()), keys.first()) {
            (Err(_), Some(first)) => {
                let kind = ErrorKind::ResultsOutOfMemory;
                Err(BatchResults {
                    outcomes: Outcomes::One(Err(Error { key: first.clone(), kind })),
                })
            }
            _ => {
                list.resize_with(keys.len(), fill);
                Ok(BatchResults { outcomes: Outcomes::List(list) })
            }
        }
    }

    /// The results, to be written. Empty if there was no memory for them.
    pub(crate) fn list_mut(&mut self) -> &mut [Item<T, K>] {
        match &mut self.outcomes {
            Outcomes::List(list) => list,
            Outcomes::One(_) => &mut [],
        }
    }
}

/// A list of results that grows, and always has room for one error more.
pub(crate) struct ResultsBuilder<T, K> {
    list: Vec<Item<T, K>>,
}

impl<T, K> ResultsBuilder<T, K> {
    /// With room for `hint` results and an error, if there is memory.
    pub(crate) fn new(hint: usize) -> Self {
        let mut list = Vec::new();
        // An error means that the first item finds no room, and says so. A hint may be wrong, so it
        // does not.
        let _ = list.try_reserve_exact(hint.saturating_add(1));
        ResultsBuilder { list }
    }

    /// Makes room for the result of one more item. False if there is no memory.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.list.capacity() - self.list.len() >= 2 || self.list.try_reserve(2).is_ok()
    }

    /// Adds a result, for which there [is room](Self::has_room).
    #[inline]
    pub(crate) fn push(&mut self, result: Item<T, K>) {
        self.list.push(result);
    }

    pub(crate) fn finish(self) -> BatchResults<T, K> {
        BatchResults { outcomes: Outcomes::List(self.list) }
    }

    /// Ends the list with the error of the item that found no room.
    #[cold]
    pub(crate) fn finish_with(mut self, error: Error<K>) -> BatchResults<T, K> {
        if self.list.len() < self.list.capacity() {
            self.list.push(Err(error));
            return self.finish();
        }
        // Without a capacity there is no result either: each item leaves room for this error.
        BatchResults { outcomes: Outcomes::One(Err(error)) }
    }
}

impl<T, K> Deref for BatchResults<T, K> {
    type Target = [Item<T, K>];

    #[inline]
    fn deref(&self) -> &[Item<T, K>] {
        match &self.outcomes {
            Outcomes::List(list) => list,
            Outcomes::One(one) => slice::from_ref(one),
        }
    }
}

/// Those of a list, and then the one that is there without a list.
type ListThenOne<R> = Chain<vec::IntoIter<R>, option::IntoIter<R>>;

/// Results by value.
#[derive(Debug)]
pub struct BatchResultsIntoIter<T, K>(ListThenOne<Item<T, K>>);

impl<T, K> Iterator for BatchResultsIntoIter<T, K> {
    type Item = Item<T, K>;

    fn next(&mut self) -> Option<Item<T, K>> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T, K> ExactSizeIterator for BatchResultsIntoIter<T, K> {}

impl<T, K> IntoIterator for BatchResults<T, K> {
    type Item = Item<T, K>;
    type IntoIter = BatchResultsIntoIter<T, K>;

    fn into_iter(self) -> BatchResultsIntoIter<T, K> {
        let (list, one) = match self.outcomes {
            Outcomes::List(list) => (list, None),
            Outcomes::One(one) => (Vec::new(), Some(one)),
        };
        BatchResultsIntoIter(list.into_iter().chain(one))
    }
}

impl<'r, T, K> IntoIterator for &'r BatchResults<T, K> {
    type Item = &'r Item<T, K>;
    type IntoIter = slice::Iter<'r, Item<T, K>>;

    fn into_iter(self) -> slice::Iter<'r, Item<T, K>> {
        self.iter()
    }
}

impl<T: fmt::Debug, K: fmt::Debug> fmt::Debug for BatchResults<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

impl<T: PartialEq, K: PartialEq> PartialEq for BatchResults<T, K> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: PartialEq, K: PartialEq> PartialEq<[Item<T, K>]> for BatchResults<T, K> {
    fn eq(&self, other: &[Item<T, K>]) -> bool {
        **self == *other
    }
}

impl<T: PartialEq, K: PartialEq, const N: usize> PartialEq<[Item<T, K>; N]> for BatchResults<T, K> {
    fn eq(&self, other: &[Item<T, K>; N]) -> bool {
        **self == other[..]
    }
}

impl<T: PartialEq, K: PartialEq> PartialEq<Vec<Item<T, K>>> for BatchResults<T, K> {
    fn eq(&self, other: &Vec<Item<T, K>>) -> bool {
        **self == other[..]
    }
}

impl<T: PartialEq, K: PartialEq> PartialEq<BatchResults<T, K>> for Vec<Item<T, K>> {
    fn eq(&self, other: &BatchResults<T, K>) -> bool {
        other == self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_without_memory_are_one_error() {
        let refused = || Error { key: 7, kind: ErrorKind::ResultsOutOfMemory };
        // More than there is, so that there is no list.
        let mut builder = ResultsBuilder::<(), u32>::new(usize::MAX);
        assert_eq!(builder.list.capacity(), 0);
        let results = ResultsBuilder { list: Vec::new() }.finish_with(refused());
        assert_eq!((results.len(), &results), (1, &results.clone()));
        assert_eq!(results, [Err::<(), _>(refused())]);
        assert_eq!(results.into_iter().collect::<Vec<_>>(), [Err(refused())]);
        assert!(builder.has_room());
        builder.push(Ok(()));
        assert_eq!(builder.finish_with(refused()), vec![Ok(()), Err(refused())]);
    }

    #[test]
    fn results_for_each_key_are_there_at_once() {
        let mut results = BatchResults::filled(&[1, 2, 3], || Ok(0)).unwrap();
        results.list_mut()[1] = Ok(5);
        assert_eq!(results, [Ok(0), Ok(5), Ok(0)]);
        assert_eq!((&results).into_iter().len(), 3);
        assert!(BatchResults::<u8, u8>::filled(&[], || Ok(0)).unwrap().is_empty());
    }
}
