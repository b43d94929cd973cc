//! The process-wide cache of class tables. A pool with a known configuration is created without
//! computing its table again.

use std::sync::{Arc, OnceLock};

use zpool_core::CreateError;
use zpool_core::internal::sync::Mutex;

use super::size_class::{ClassConfig, ClassTable};

/// Tables kept, the most recently used first. A process normally uses one or two.
const KEPT: usize = 8;

/// Returns the shared table of `config`.
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
    // Outside the lock: computing a table is slow.
    let table = Arc::new(ClassTable::new(config)?);
    let mut tables = cache.lock();
    // If another thread was faster, its table is used and this one dropped.
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
    fn equal_configurations_share_table() {
        let config = ClassConfig::new(4096, 3000);
        let first = table(config).unwrap();
        assert!(Arc::ptr_eq(&first, &table(config).unwrap()));
        assert!(!Arc::ptr_eq(&first, &table(ClassConfig { chain: 3, ..config }).unwrap()));
        assert!(table(ClassConfig { chain: 0, ..config }).is_err());
    }
}
