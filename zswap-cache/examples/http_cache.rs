//! A cache of HTTP responses: `cargo run -p zswap-cache --example http_cache`.
//!
//! Responses live as long as their `max-age`, expensive pages are rendered once however many
//! clients ask, and a look-up takes a `&str`: no lock here, no key is allocated for a hit, and no
//! second map records when each response expires.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zswap_cache::{Cache, CacheError, EntryOptions, ManualTime, RemovalCause};

/// An answer of the server behind the cache.
struct Response {
    max_age: Duration,
    body: String,
}

struct HttpCache {
    responses: Cache<String>,
    rendered: AtomicUsize,
}

impl HttpCache {
    /// Serves a page that is rendered once, however many clients ask.
    fn page(&self, path: &str) -> Result<Vec<u8>, CacheError> {
        self.responses.get_or_insert_with(path, || {
            self.rendered.fetch_add(1, Ordering::Relaxed);
            format!("<html><body>{}</body></html>", format!("<p>{path}</p>").repeat(500))
        })
    }

    /// Keeps the response of another server for its `max_age`.
    fn keep(&self, path: &str, response: &Response) -> Result<(), CacheError> {
        let options = EntryOptions::new().time_to_live(response.max_age);
        self.responses.insert_with(path.to_owned(), &response.body, options)
    }
}

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (time, expired) = (Arc::new(ManualTime::new()), Arc::new(AtomicUsize::new(0)));
    let seen = expired.clone();
    let responses = Cache::builder()
        .limit_bytes(32 << 20)
        .time_to_live(Duration::from_secs(600))
        .manual_time(&time)
        .on_removal(move |_: &String, _, cause| {
            seen.fetch_add(usize::from(cause == RemovalCause::Expired), Ordering::Relaxed);
        })
        .build()?;
    let cache = HttpCache { responses, rendered: AtomicUsize::new(0) };
    // Eight clients ask for the same ten pages at once.
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| (0..10).try_for_each(|n| cache.page(&format!("/{n}")).map(drop)))
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().expect("no client panics"))
    })?;
    assert_eq!(cache.rendered.load(Ordering::Relaxed), 10, "each page once");
    let minute = Duration::from_secs(60);
    cache.keep("/feed", &Response { max_age: minute, body: "news ".repeat(1000) })?;
    time.advance(minute);
    assert_eq!(cache.responses.get("/feed")?, None, "older than its max-age");
    time.advance(9 * minute);
    assert_eq!(cache.responses.remove_expired(), 10);
    let stats = cache.responses.stats();
    println!(
        "80 requests, 10 pages rendered, {} look-ups hit; {} responses expired",
        stats.hits,
        expired.load(Ordering::Relaxed)
    );
    assert_eq!((stats.entries, expired.load(Ordering::Relaxed)), (0, 11));
    Ok(())
}
