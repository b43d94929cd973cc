//! A cache with a file below memory, in a tokio program: a block in memory is loaded in the task,
//! one in the file on a blocking thread, by a ticket.
//!
//! `cargo run --release -p zswap --example tier_tokio`

use std::error::Error;
use std::sync::Arc;

use zswap::tier::{FileTier, LoadOrTicket};
use zswap::{AtLimit, Store};

/// Bytes of a page.
const PAGE: usize = 4096;
/// Pages that are stored: several times as many as fit in memory.
const PAGES: u64 = 4_000;
/// Tasks that load.
const TASKS: u64 = 8;

type Failure = Box<dyn Error + Send + Sync>;

/// Runs the program.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
pub async fn main() -> Result<(), Failure> {
    let store = tokio::task::spawn_blocking(filled).await??;
    let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(check(store.clone(), task))).collect();
    let mut tickets = 0;
    for task in tasks {
        tickets += task.await??;
    }
    let stats = store.stats();
    println!("{tickets} of {PAGES} pages were read by a ticket\n{stats}");
    assert!(tickets > 0 && stats.loads_missed == 0, "{stats}");
    Ok(())
}

/// Makes a store at its limit. Stores may block, so this runs on a blocking thread.
fn filled() -> Result<Store<u64>, Failure> {
    let file =
        FileTier::builder(std::env::temp_dir(), 32 << 20).segment_bytes(256 << 10).build()?;
    let store = Store::builder()
        .limit_bytes(4 << 20)
        .at_limit(AtLimit::Evict)
        .tier(Arc::new(file))
        .build()?;
    for key in 0..PAGES {
        store.store(key, page(key))?;
    }
    Ok(store)
}

/// Loads the pages of a task, and returns how many were in the file.
async fn check(store: Store<u64>, task: u64) -> Result<usize, Failure> {
    let mut tickets = 0;
    for key in (0..PAGES).filter(|key| key % TASKS == task) {
        let mut buffer = vec![0; PAGE];
        let (len, buffer) = match store.load_or_ticket(&key, &mut buffer)? {
            LoadOrTicket::Loaded(len) => (Some(len), buffer),
            LoadOrTicket::Ticket(ticket) => {
                tickets += 1;
                let read = move || ticket.read(&mut buffer).map(|len| (len, buffer));
                tokio::task::spawn_blocking(read).await??
            }
            _ => (None, buffer),
        };
        assert_eq!(len.map(|len| &buffer[..len]), Some(page(key).as_bytes()));
    }
    Ok(tickets)
}

/// A page of numbers, which shrinks to about half.
fn page(key: u64) -> String {
    let mut page: String = (key * 700..key * 700 + 700).map(|n| n.to_string()).collect();
    page.truncate(PAGE);
    page
}
