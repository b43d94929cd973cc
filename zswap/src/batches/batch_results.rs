//! The results of a batch: a list, or a single error if there was no memory for the list.

use std::fmt;
use std::iter::Chain;
use std::ops::Deref;
use std::{option, slice, vec};

use crate::value::error::Error;

/// The result of an item of a batch.
type Item<T> = Result<T, Error>;

/// Results of the items of a batch, in their order: of [`store_many`](crate::Store::store_many) or
/// [`load_many`](crate::Store::load_many). Derefs to a slice.
///
/// There is one for each item, with one exception. If there is no memory for the list, the last
/// result is [`Error::ResultsOutOfMemory`]: its item failed, and so did all after it. So
/// `iter().all(Result::is_ok)` is true only if all items succeeded.
#[derive(Clone)]
#[must_use = "items may have failed"]
pub struct BatchResults<T> {
    outcomes: Outcomes<T>,
}

#[derive(Clone)]
enum Outcomes<T> {
    List(Vec<Item<T>>),
    /// There was no memory for a list.
    One(Item<T>),
}

impl<T> BatchResults<T> {
    /// Makes `len` results with `fill`, or the only result if there is no memory for the list.
    pub(crate) fn filled(len: usize, fill: impl FnMut() -> Item<T>) -> Result<Self, Self> {
        let mut list = Vec::new();
        if list.try_reserve_exact(len).is_err() {
            let outcomes = Outcomes::One(Err(Error::ResultsOutOfMemory));
            return Err(BatchResults { outcomes });
        }
        list.resize_with(len, fill);
        Ok(BatchResults { outcomes: Outcomes::List(list) })
    }

    /// Returns the results, to be written. Empty if there was no memory for them.
    pub(crate) fn list_mut(&mut self) -> &mut [Item<T>] {
        match &mut self.outcomes {
            Outcomes::List(list) => list,
            Outcomes::One(_) => &mut [],
        }
    }
}

/// A list of results that grows, and always has room for one error more.
pub(crate) struct ResultsBuilder<T> {
    list: Vec<Item<T>>,
}

impl<T> ResultsBuilder<T> {
    /// Makes a list with room for `hint` results and an error, if there is memory.
    pub(crate) fn new(hint: usize) -> Self {
        let mut list = Vec::new();
        // A failure is reported by the first item that finds no room. It is not reported here,
        // because the hint may be wrong.
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
    pub(crate) fn push(&mut self, result: Item<T>) {
        self.list.push(result);
    }

    pub(crate) fn finish(self) -> BatchResults<T> {
        BatchResults { outcomes: Outcomes::List(self.list) }
    }

    /// Ends the list with the error of the item that found no room.
    #[cold]
    pub(crate) fn finish_with(mut self, error: Error) -> BatchResults<T> {
        if self.list.len() < self.list.capacity() {
            self.list.push(Err(error));
            return self.finish();
        }
        // Without capacity the list has no result: each item leaves room for this error.
        BatchResults { outcomes: Outcomes::One(Err(error)) }
    }
}

impl<T> Deref for BatchResults<T> {
    type Target = [Item<T>];

    #[inline]
    fn deref(&self) -> &[Item<T>] {
        match &self.outcomes {
            Outcomes::List(list) => list,
            Outcomes::One(one) => slice::from_ref(one),
        }
    }
}

/// The results of a list, then the single result that replaces a list.
type ListThenOne<R> = Chain<vec::IntoIter<R>, option::IntoIter<R>>;

/// Results by value.
#[derive(Debug)]
pub struct BatchResultsIntoIter<T>(ListThenOne<Item<T>>);

impl<T> Iterator for BatchResultsIntoIter<T> {
    type Item = Item<T>;

    fn next(&mut self) -> Option<Item<T>> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> ExactSizeIterator for BatchResultsIntoIter<T> {}

impl<T> IntoIterator for BatchResults<T> {
    type Item = Item<T>;
    type IntoIter = BatchResultsIntoIter<T>;

    fn into_iter(self) -> BatchResultsIntoIter<T> {
        let (list, one) = match self.outcomes {
            Outcomes::List(list) => (list, None),
            Outcomes::One(one) => (Vec::new(), Some(one)),
        };
        BatchResultsIntoIter(list.into_iter().chain(one))
    }
}

impl<'r, T> IntoIterator for &'r BatchResults<T> {
    type Item = &'r Item<T>;
    type IntoIter = slice::Iter<'r, Item<T>>;

    fn into_iter(self) -> slice::Iter<'r, Item<T>> {
        self.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for BatchResults<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

impl<T: PartialEq> PartialEq for BatchResults<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: PartialEq> PartialEq<[Item<T>]> for BatchResults<T> {
    fn eq(&self, other: &[Item<T>]) -> bool {
        **self == *other
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[Item<T>; N]> for BatchResults<T> {
    fn eq(&self, other: &[Item<T>; N]) -> bool {
        **self == other[..]
    }
}

impl<T: PartialEq> PartialEq<Vec<Item<T>>> for BatchResults<T> {
    fn eq(&self, other: &Vec<Item<T>>) -> bool {
        **self == other[..]
    }
}

impl<T: PartialEq> PartialEq<BatchResults<T>> for Vec<Item<T>> {
    fn eq(&self, other: &BatchResults<T>) -> bool {
        other == self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_without_memory_are_one_error() {
        let refused = || Error::ResultsOutOfMemory;
        // More than there is, so that there is no list.
        let mut builder = ResultsBuilder::<()>::new(usize::MAX);
        assert_eq!(builder.list.capacity(), 0);
        let results = ResultsBuilder { list: Vec::new() }.finish_with(refused());
        assert!(matches!(results.outcomes, Outcomes::One(_)), "the list was not asked to grow");
        assert_eq!((results.len(), &results), (1, &results.clone()));
        assert_eq!(results, [Err::<(), _>(refused())]);
        assert_eq!(results.into_iter().collect::<Vec<_>>(), [Err(refused())]);
        assert!(builder.has_room());
        builder.push(Ok(()));
        assert_eq!(builder.finish_with(refused()), vec![Ok(()), Err(refused())]);
    }

    #[test]
    fn results_for_each_key_are_there_at_once() {
        let mut results = BatchResults::filled(3, || Ok(0)).unwrap();
        results.list_mut()[1] = Ok(5);
        assert_eq!(results, [Ok(0), Ok(5), Ok(0)]);
        assert_eq!((&results).into_iter().len(), 3);
        assert!(BatchResults::<u8>::filled(0, || Ok(0)).unwrap().is_empty());
    }
}
