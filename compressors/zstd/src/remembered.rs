//! Dictionaries that this process finds by the hash of their bytes, so that one trained in memory
//! needs no file.

use std::collections::BTreeMap;
use std::sync::Arc;

use zpool_core::CreateError;
use zpool_core::internal::sync::Mutex;

use crate::compressor::{ZstdCompressor, bad_dictionary};
use crate::xxh64::xxh64;

/// Prefix of a `dict` value that is a hash and not a file.
pub(crate) const PREFIX: &str = "xxh64:";

/// By hash. A leaf lock: entries are only looked up, inserted and removed under it.
static REMEMBERED: Mutex<BTreeMap<u64, Arc<[u8]>>> = Mutex::new(BTreeMap::new());

/// Keeps a copy of a dictionary until it is [forgotten](forget) or the process ends. Returns the
/// name by which [`ZstdDriver`](crate::ZstdDriver) finds it: the value of `dict` in a spec, such as
/// `xxh64:0123456789abcdef`.
///
/// The identity of codecs that use the dictionary contains this name, so a spec may repeat it.
///
/// # Errors
///
/// [`CreateError::BadValue`] if the bytes are not a dictionary: see
/// [`ZstdCompressor::with_dictionary`].
///
/// # Example
///
/// ```
/// use zpool_core::compress::CompressorDriver;
/// use zpool_core::spec::Component;
/// use zpool_zstd::ZstdDriver;
///
/// let name = zpool_zstd::remember(b"words that blocks are likely to share")?;
/// let spec: Component = format!("zstd(level=-1,dict={name})").parse()?;
/// assert_eq!(ZstdDriver.open(&spec.params)?.identity(), &spec);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn remember(dictionary: &[u8]) -> Result<String, CreateError> {
    ZstdCompressor::with_dictionary(ZstdCompressor::DEFAULT_LEVEL, dictionary)?;
    let hash = xxh64(dictionary);
    REMEMBERED.lock().insert(hash, dictionary.into());
    Ok(name(hash))
}

/// Forgets a dictionary by its name. Returns whether there was one. Codecs that use it keep it.
pub fn forget(name: &str) -> bool {
    let Ok(hash) = parse(name) else { return false };
    REMEMBERED.lock().remove(&hash).is_some()
}

/// Returns the name of a dictionary with this hash.
pub(crate) fn name(hash: u64) -> String {
    format!("{PREFIX}{hash:016x}")
}

/// Returns the bytes of a dictionary by its name.
pub(crate) fn find(name: &str) -> Result<Arc<[u8]>, CreateError> {
    let hash = parse(name)?;
    let found = REMEMBERED.lock().get(&hash).cloned();
    found.ok_or_else(|| bad_dictionary(name, "a dictionary that this process remembers, or a file"))
}

fn parse(name: &str) -> Result<u64, CreateError> {
    let digits =
        name.strip_prefix(PREFIX).filter(|digits| digits.len() == 16 && !digits.starts_with('+'));
    let hash = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    hash.ok_or_else(|| bad_dictionary(name, "`xxh64:` and 16 hexadecimal digits, or a file"))
}

#[cfg(test)]
mod tests {
    use zpool_core::compress::CompressorDriver;
    use zpool_core::spec::Component;

    use super::*;
    use crate::ZstdDriver;

    fn open(name: &str) -> Result<String, CreateError> {
        let spec: Component = format!("zstd(dict={name})").parse().unwrap();
        ZstdDriver.open(&spec.params).map(|codec| codec.identity().to_string())
    }

    /// A dictionary is found by its name until it is forgotten.
    #[test]
    fn dictionary_is_found_until_forgotten() {
        let name = remember(b"shared by the blocks of this test").unwrap();
        assert_eq!(open(&name).unwrap(), format!("zstd(dict={name})"));
        assert!(forget(&name) && !forget(&name));
        let error = open(&name).unwrap_err().to_string();
        assert!(error.contains("that this process remembers"), "{error}");
    }

    /// Unusable names and dictionaries are errors.
    #[test]
    fn bad_name_or_dictionary_is_error() {
        for name in ["xxh64:", "xxh64:12", "xxh64:+123456789abcdef", "xxh64:0123456789abcdefg"] {
            let error = open(name).unwrap_err().to_string();
            assert!(error.contains("16 hexadecimal digits"), "{error}");
            assert!(!forget(name));
        }
        assert!(matches!(remember(b"short"), Err(CreateError::BadValue { .. })));
    }
}
