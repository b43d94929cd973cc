//! Stores a page, switches to another pool, and loads the page back.
use zswap::Store;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::builder().build()?;
    let page = b"a page of memory ".repeat(240);
    store.store("page 7", &page)?;
    store.switch(&"zsmalloc(chain=8)+lz4".parse()?)?;
    assert_eq!(store.load_vec(&"page 7")?, Some(page));

    store.invalidate(&"page 7");
    store.manager().flush()?;
    assert_eq!(store.stats().manager.pools_alive, 1);
    Ok(())
}
