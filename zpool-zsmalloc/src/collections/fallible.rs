//! Lists that need no heap, and lists whose allocation may fail. Work that must go on when memory
//! runs out uses these.

/// Up to `N` items, stored inline.
#[derive(Debug)]
pub(crate) struct InlineList<T, const N: usize> {
    items: [Option<T>; N],
    len: usize,
}

impl<T, const N: usize> InlineList<T, N> {
    pub(crate) fn new() -> InlineList<T, N> {
        InlineList { items: [const { None }; N], len: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == N
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item.
    ///
    /// # Panics
    ///
    /// If the list is full.
    pub(crate) fn push(&mut self, item: T) {
        self.items[self.len] = Some(item);
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        self.items[self.len].take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items[..self.len].iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items[..self.len].iter_mut().flatten()
    }
}

/// Returns an empty vector with a capacity of exactly `len` items, or `None` if the heap refuses.
pub(crate) fn try_with_capacity<T>(len: usize) -> Option<Vec<T>> {
    let mut items = Vec::new();
    items.try_reserve_exact(len).ok()?;
    Some(items)
}

/// Returns a boxed slice of `len` default values, or `None` if the heap refuses.
pub(crate) fn try_boxed_defaults<T: Default>(len: usize) -> Option<Box<[T]>> {
    let mut items = try_with_capacity(len)?;
    items.resize_with(len, T::default);
    Some(items.into_boxed_slice())
}
