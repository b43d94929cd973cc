//! Models that this process finds by the hash of their contents, or in files.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use zpool_core::CreateError;
use zpool_core::internal::open_regular;
use zpool_core::internal::sync::Mutex;

use crate::model::{MAX_BYTES, Model, bad_model};

/// The prefix of a remembered model's name.
pub(crate) const PREFIX: &str = "fnv64:";

static REMEMBERED: Mutex<BTreeMap<String, Arc<[u8]>>> = Mutex::new(BTreeMap::new());

/// Keeps a model until it is [forgotten](forget) or the process ends, so that specs can name it.
/// Returns its name, for `pagelz(model=NAME)`, which depends on the bytes alone.
///
/// # Errors
///
/// [`CreateError::BadValue`] if the bytes are not a model.
pub fn remember(model: &[u8]) -> Result<String, CreateError> {
    if Model::from_bytes(model).is_none() {
        return Err(bad_model("(bytes)", "a model"));
    }
    let name = name_of(model);
    REMEMBERED.lock().insert(name.clone(), model.into());
    Ok(name)
}

/// Forgets a model by its name. Returns whether there was one. Codecs that use it keep it.
pub fn forget(name: &str) -> bool {
    REMEMBERED.lock().remove(name).is_some()
}

/// Returns the name of a model with these bytes.
pub(crate) fn name_of(bytes: &[u8]) -> String {
    format!("{PREFIX}{:016x}", fnv64(bytes))
}

/// Returns the bytes of a model by its name.
pub(crate) fn find(name: &str) -> Result<Arc<[u8]>, CreateError> {
    let found = REMEMBERED.lock().get(name).cloned();
    found.ok_or_else(|| bad_model(name, "a model that this process remembers, or a file"))
}

/// Returns the FNV-1a hash, which identifies models but gives no protection against forgery.
fn fnv64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Reads the bytes of a model in a regular file, and at most one byte more than the longest model
/// has. Does not wait without bound, as [`open_regular`] says.
pub(crate) fn read(path: &Path) -> io::Result<Arc<[u8]>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv64_known_values() {
        assert_eq!(fnv64(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv64(b"a"), 0xAF63_DC4C_8601_EC8C);
    }

    #[test]
    fn remembered_model_is_found_until_forgotten() {
        let bytes = Model::generic().to_bytes();
        let name = remember(&bytes).unwrap();
        assert_eq!(find(&name).unwrap()[..], bytes);
        assert!(forget(&name) && !forget(&name));
        let error = find(&name).unwrap_err().to_string();
        assert!(error.contains("that this process remembers"), "{error}");
        assert!(remember(b"short").is_err());
    }
}
