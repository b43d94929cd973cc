//! The process's cache of class tables, so that a pool like one before is created without computing its table again.

use std::sync::{Arc, OnceLock};

use zpool_core::CreateError;
use zpool_core::internal::sync::Mutex;

use crate::class::{ClassConfig, ClassTable};

/// Tables kept, the most recently used first. A process uses one or two; the storm of a test, a handful.
const KEPT: usize = 8;

/// The table of `config`, shared.
///
/// # Errors
///
/// Those of [`ClassTable::new`].
pub(crate) fn table(config: ClassConfig) -> Result<Arc<ClassTable>, CreateError> {
    static CACHE: OnceLock<Mutex<Vec<Arc<ClassTable>>>> = OnceLock::new();
    let cache = CACHE.get_or_init(|| Mutex::new(Vec::new()));
    if let Some(table) = find(&mut cache.lock(), &config) {
        return Ok(table);
    }
    // Outside the lock: it may take a millisecond.
    let table = Arc::new(ClassTable::new(config)?);
    let mut tables = cache.lock();
    // Somebody may have been faster; then there is one table still.
    if let Some(table) = find(&mut tables, &config) {
        return Ok(table);
    }
    tables.insert(0, table.clone());
    tables.truncate(KEPT);
    Ok(table)
}

fn find(tables: &mut [Arc<ClassTable>], config: &ClassConfig) -> Option<Arc<ClassTable>> {
    let at = tables.iter().position(|table| table.config() == config)?;
    tables[..=at].rotate_right(1);
    Some(tables[0].clone())
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn equal_configurations_share_a_table() {
        let config = ClassConfig::new(4096, 3000);
        let first = table(config).unwrap();
        assert!(Arc::ptr_eq(&first, &table(config).unwrap()));
        assert!(!Arc::ptr_eq(&first, &table(ClassConfig { chain: 3, ..config }).unwrap()));
        assert!(table(ClassConfig { chain: 0, ..config }).is_err());
    }
}
