//! The pool and its driver.

use core::fmt;
use std::sync::Arc;

use zpool_core::internal::catch;
use zpool_core::spec::Params;
use zpool_core::{
    Capabilities, CreateError, Evict, FreeError, Handle, PoolConfig, PoolError, PoolId, PoolStats,
    ReadGuard, ReclaimError, ReclaimReport, Violation, ZPool, ZPoolDriver, might_block,
};

use crate::buddy::FreeOutcome;
use crate::geometry::{BuddyIndex, Geometry, MAX_PAGE, MIN_PAGE, SIDES};
use crate::memory::ClaimedChunks;
use crate::pool_core::ZbudCore;
use crate::{state, stats};

/// Creates [`Zbud`] pools, under the name `zbud`.
///
/// The one parameter, `page`, is the page size in bytes, a power of two from 4096 to 262144. Its
/// default is the smallest of these that holds an object of [`PoolConfig::max_object_len`]. If the
/// page source's frames are larger than that, a page is a frame.
#[derive(Debug, Clone, Copy, Default)]
pub struct ZbudDriver;

const KNOWN: &str = "page=4096..262144, a power of two";

impl ZbudDriver {
    /// Returns the page size that the parameters ask for, if they do.
    fn page_of(params: &Params) -> Result<Option<usize>, CreateError> {
        if let Some((name, _)) = params.iter().find(|(name, _)| *name != "page") {
            return Err(CreateError::UnknownParameter { name: name.to_owned(), known: KNOWN });
        }
        let Some(value) = params.get("page") else { return Ok(None) };
        match value.parse::<usize>() {
            Ok(page) if page.is_power_of_two() && (MIN_PAGE..=MAX_PAGE).contains(&page) => {
                Ok(Some(page))
            }
            _ => Err(bad("page", value, format!("a power of two from {MIN_PAGE} to {MAX_PAGE}"))),
        }
    }

    /// Returns the geometry of a pool of this configuration.
    fn geometry(config: &PoolConfig) -> Result<Geometry, CreateError> {
        let (wanted, longest) = (ZbudDriver::page_of(&config.params)?, config.max_object_len);
        if !(1..=MAX_PAGE).contains(&longest) {
            return Err(bad(
                "max_object_len",
                &longest.to_string(),
                format!("1 to {MAX_PAGE} bytes"),
            ));
        }
        let fitting = longest.next_power_of_two().max(MIN_PAGE);
        match wanted {
            Some(page) if page < fitting => Err(bad(
                "page",
                &page.to_string(),
                format!("a page that holds an object of {longest} bytes"),
            )),
            wanted => Ok(Geometry::new(wanted.unwrap_or(fitting), config.source.frame_size())),
        }
    }

    fn capabilities_of(config: &PoolConfig) -> Capabilities {
        Capabilities::new(config.max_object_len)
            .with_objects_per_page(SIDES.len() as u32)
            .reclaiming()
            .wiping()
    }
}

fn bad(name: &str, value: &str, expected: String) -> CreateError {
    CreateError::BadValue { name: name.to_owned(), value: value.to_owned(), expected }
}

impl ZPoolDriver for ZbudDriver {
    fn name(&self) -> &str {
        "zbud"
    }

    fn canonical(&self, params: &Params) -> Result<Params, CreateError> {
        let mut canonical = Params::default();
        // An explicit page size is kept even if it equals the default, which depends on the block
        // size.
        if let Some(page) = ZbudDriver::page_of(params)? {
            canonical.set("page", page.to_string());
        }
        Ok(canonical)
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        let geometry = ZbudDriver::geometry(config)?;
        let capabilities = ZbudDriver::capabilities_of(config);
        let core = ZbudCore::new(
            geometry,
            config.source.clone(),
            config.executor.clone(),
            config.wipe_on_free,
        );
        Ok(Box::new(Zbud { core, capabilities }))
    }

    fn capabilities(&self, config: &PoolConfig) -> Result<Capabilities, CreateError> {
        ZbudDriver::geometry(config).map(|_| ZbudDriver::capabilities_of(config))
    }
}

/// A pool with at most two objects per page, created by [`ZbudDriver`]. The [crate](crate) explains
/// its structure.
pub struct Zbud {
    core: Arc<ZbudCore>,
    capabilities: Capabilities,
}

impl ZPool for Zbud {
    fn id(&self) -> PoolId {
        self.core.mint.pool_id()
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn footprint(&self, len: usize) -> usize {
        self.core.geometry.footprint(len)
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        let (len, max) = (object.len(), self.capabilities.max_object_len);
        if len == 0 {
            return Err(PoolError::EmptyObject);
        }
        if len > max {
            return Err(PoolError::TooLarge { len, max });
        }
        Ok(ClaimedChunks::take(&self.core, len)?.fill(object))
    }

    #[inline]
    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let opened = self.core.mint.open(handle)?;
        let index = BuddyIndex::from_bits(opened.index);
        let bytes = self.core.borrow(index, opened.generation)?;
        Ok(ReadGuard::pinned(bytes, &*self.core, u64::from(index.bits())))
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let opened = match self.core.mint.open(&handle) {
            Ok(opened) => opened,
            Err(error) => return Err(FreeError::new(error, handle)),
        };
        let index = BuddyIndex::from_bits(opened.index);
        let Some((_, buddy)) = self.core.table.buddy(index) else {
            return Err(FreeError::new(PoolError::StaleHandle, handle));
        };
        let mut state = self.core.lock();
        match buddy.kill(opened.generation) {
            Ok(FreeOutcome::Freed { len }) => {
                state.end_object();
                self.core.vacate(&mut state, index, len);
            }
            Ok(FreeOutcome::Zombie) => state.make_zombie(),
            Err(error) => return Err(FreeError::new(error, handle)),
        }
        self.core.unlock_and_submit(state);
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        self.core.bytes_held()
    }

    fn stats(&self) -> PoolStats {
        stats::snapshot(&self.core)
    }

    fn validate(&self) -> Result<(), Violation> {
        let state = self.core.lock();
        state::validate(&state, &self.core.table, self.core.geometry)
    }

    fn reclaim(&self, pages: usize, owner: &mut dyn Evict) -> Result<ReclaimReport, ReclaimError> {
        might_block("Zbud::reclaim");
        self.core.reclaim(pages, owner)
    }

    fn trim(&self) -> usize {
        might_block("Zbud::trim");
        self.core.release_all_unused() * self.core.geometry.frame()
    }
}

impl Drop for Zbud {
    fn drop(&mut self) {
        // Closes the pool even if the check below panics: that is the caller's bug, and no reason
        // to leak.
        let _closing = CloseOnDrop(&self.core);
        might_block("Zbud::drop");
    }
}

struct CloseOnDrop<'a>(&'a ZbudCore);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        // A page source that panics while this thread unwinds would abort the process.
        if std::thread::panicking() {
            let _ = catch(|| self.0.close());
        } else {
            self.0.close();
        }
    }
}

impl fmt::Debug for Zbud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}
