//! The caches that are compared, behind one trait.

use std::sync::Arc;

use benches::Failure;
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use zpool_core::spec::PoolSpec;
use zpool_lz4::Lz4Driver;
use zpool_pagelz::PagelzDriver;
use zpool_zbud::ZbudDriver;
use zpool_zsmalloc::ZsmallocDriver;
use zpool_zstd::ZstdDriver;
use zswap::{AtLimit, Store};

use crate::PAGE;

/// A cache of pages that evicts.
pub(crate) trait PageCache {
    /// Copies the page of `number` into `page`. Returns whether it was there.
    fn load(&mut self, number: u64, page: &mut [u8]) -> bool;

    /// Keeps a page, unless the policy rejects it.
    fn store(&mut self, number: u64, page: &[u8]);
}

/// The form in which a rival keeps a page.
#[derive(Debug, Clone)]
pub(crate) enum PageForm {
    /// As it is.
    Plain,
    /// As an lz4 block, or as it is if it does not shrink. The bytes are scratch of the compressor.
    Lz4(Vec<u8>),
}

impl PageForm {
    fn lz4() -> PageForm {
        PageForm::Lz4(vec![0; get_maximum_output_size(PAGE.get())])
    }

    /// Returns the bytes to keep for `page`.
    fn encode<'a>(&'a mut self, page: &'a [u8]) -> &'a [u8] {
        match self {
            PageForm::Plain => page,
            PageForm::Lz4(scratch) => {
                let len = compress_into(page, scratch).expect("the scratch has the bound");
                if len < page.len() { &scratch[..len] } else { page }
            }
        }
    }

    /// Copies the page whose encoded form is `kept`. Returns false if it does not decode.
    fn decode(kept: &[u8], page: &mut [u8]) -> bool {
        if kept.len() == page.len() {
            page.copy_from_slice(kept);
            return true;
        }
        decompress_into(kept, page).is_ok()
    }
}

/// Creates the cache that `name` names, with a capacity in bytes. Entries of rivals are expected to
/// have `entry_bytes` each.
pub(crate) fn create(
    name: &str,
    spec: &PoolSpec,
    capacity: u64,
    entry_bytes: u64,
) -> Result<Box<dyn PageCache>, Failure> {
    let (rival, form) = match name.strip_suffix("_plain") {
        Some(rival) => (rival, PageForm::Plain),
        None => (name, PageForm::lz4()),
    };
    Ok(match rival {
        "ours" => Box::new(ours(spec, capacity)?),
        "moka" => {
            let cache = moka::sync::Cache::builder()
                .max_capacity(capacity)
                .weigher(|_: &u64, page: &Arc<[u8]>| page.len() as u32)
                .build();
            Box::new(Moka { cache, form })
        }
        "quick_cache" => {
            let entries = (capacity / entry_bytes.max(1)) as usize;
            let cache = quick_cache::sync::Cache::with_weighter(entries, capacity, PageLen);
            Box::new(QuickCache { cache, form })
        }
        "foyer" => {
            let cache = foyer_memory::CacheBuilder::new(capacity as usize)
                .with_weighter(|_: &u64, page: &OwnedPage| page.0.len())
                .build();
            Box::new(Foyer { cache, form })
        }
        _ => return Err(format!("there is no cache {name}").into()),
    })
}

fn ours(spec: &PoolSpec, capacity: u64) -> Result<Store<u64>, Failure> {
    let store = Store::builder()
        .allocator(Arc::new(ZbudDriver))
        .allocator(Arc::new(ZsmallocDriver))
        .compressor(Arc::new(Lz4Driver))
        .compressor(Arc::new(PagelzDriver))
        .compressor(Arc::new(ZstdDriver))
        .spec(spec.clone())
        .limit_bytes(capacity as usize)
        .at_limit(AtLimit::Evict)
        .build()?;
    Ok(store)
}

impl PageCache for Store<u64> {
    fn load(&mut self, number: u64, page: &mut [u8]) -> bool {
        Store::load(self, &number, page).expect("no back end fails").is_some()
    }

    fn store(&mut self, number: u64, page: &[u8]) {
        Store::store(self, number, page).expect("a full store evicts");
    }
}

struct Moka {
    cache: moka::sync::Cache<u64, Arc<[u8]>>,
    form: PageForm,
}

impl PageCache for Moka {
    fn load(&mut self, number: u64, page: &mut [u8]) -> bool {
        self.cache.get(&number).is_some_and(|kept| PageForm::decode(&kept, page))
    }

    fn store(&mut self, number: u64, page: &[u8]) {
        self.cache.insert(number, Arc::from(self.form.encode(page)));
    }
}

struct QuickCache {
    cache: quick_cache::sync::Cache<u64, Arc<[u8]>, PageLen>,
    form: PageForm,
}

/// Weighs a page by its bytes.
#[derive(Debug, Clone)]
struct PageLen;

impl quick_cache::Weighter<u64, Arc<[u8]>> for PageLen {
    fn weight(&self, _: &u64, page: &Arc<[u8]>) -> u64 {
        page.len() as u64
    }
}

impl PageCache for QuickCache {
    fn load(&mut self, number: u64, page: &mut [u8]) -> bool {
        self.cache.get(&number).is_some_and(|kept| PageForm::decode(&kept, page))
    }

    fn store(&mut self, number: u64, page: &[u8]) {
        self.cache.insert(number, Arc::from(self.form.encode(page)));
    }
}

struct Foyer {
    cache: foyer_memory::Cache<u64, OwnedPage>,
    form: PageForm,
}

/// The bytes of a page. foyer counts the references to its entries, so they need no count here.
struct OwnedPage(Box<[u8]>);

impl PageCache for Foyer {
    fn load(&mut self, number: u64, page: &mut [u8]) -> bool {
        self.cache.get(&number).is_some_and(|kept| PageForm::decode(&kept.0, page))
    }

    fn store(&mut self, number: u64, page: &[u8]) {
        self.cache.insert(number, OwnedPage(Box::from(self.form.encode(page))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cache returns the pages that it keeps, compressible or not, and evicts others.
    #[test]
    fn caches_keep_pages_and_evict() {
        let spec: PoolSpec = "zsmalloc+lz4".parse().unwrap();
        let page = |number: u64| {
            let mut page = vec![number as u8; PAGE.get()];
            let mut rng = workload::Rng::new(number);
            // Every fourth page is noise.
            let noisy = if number.is_multiple_of(4) { PAGE.get() } else { 256 };
            page[..noisy].iter_mut().for_each(|byte| *byte = rng.next_u64() as u8);
            page
        };
        for name in [
            "ours",
            "moka",
            "quick_cache",
            "foyer",
            "moka_plain",
            "quick_cache_plain",
            "foyer_plain",
        ] {
            let mut cache = create(name, &spec, 2 << 20, 1024).unwrap();
            (0..4000).for_each(|number| cache.store(number, &page(number)));
            let mut buffer = vec![0xA5; PAGE.get()];
            let mut kept = 0;
            for number in 0..4000 {
                if cache.load(number, &mut buffer) {
                    assert_eq!(buffer, page(number), "{name}");
                    kept += 1;
                }
            }
            assert!((200..3500).contains(&kept), "{name}: {kept}");
        }
        assert!(create("none", &spec, 1 << 20, 1024).is_err());
    }
}
