//! Copies of keys, listed while a shard is locked.

/// Keys that were listed: any number if there is memory, otherwise one.
#[derive(Debug)]
pub(crate) struct KeyBatch<K> {
    pub(crate) one: Option<K>,
    pub(crate) more: Vec<K>,
}

impl<K> IntoIterator for KeyBatch<K> {
    type Item = K;
    type IntoIter = std::iter::Chain<std::option::IntoIter<K>, std::vec::IntoIter<K>>;

    fn into_iter(self) -> Self::IntoIter {
        self.one.into_iter().chain(self.more)
    }
}
