//! The tier passes the suite against a real server, and tells apart what is lost, full and broken.
//!
//! Tests that need a server are skipped, with a line that says so, where there is none.
//! `ci/tiers.sh` installs one and insists on it.

mod server;

use std::net::TcpListener;
use std::time::Duration;

use zpool_conformance::backing::{BACKING_CASES, BackingMaker, capabilities_are_those_listed};
use zpool_core::backing::{BackingError, BackingStore, CapabilitiesError, SegmentNumber};
use zswap_tier_redis::redis::Client;
use zswap_tier_redis::{RedisTier, RedisTierError};

use server::{Server, free_port};

const SEGMENT_BYTES: usize = 10_000;
const FIRST: SegmentNumber = SegmentNumber::new(0);
const SECOND: SegmentNumber = SegmentNumber::new(1);

/// Makes a tier of 20 segments.
fn tier_on(client: Client) -> RedisTier {
    let builder = RedisTier::builder(client, 20 * SEGMENT_BYTES as u64);
    builder.segment_bytes(SEGMENT_BYTES).build().unwrap()
}

fn read(tier: &RedisTier, segment: SegmentNumber) -> Result<[u8; 100], BackingError> {
    let mut bytes = [0; 100];
    tier.read(segment, 0, &mut bytes).map(|()| bytes)
}

/// All cases of the suite pass, in one test, because they need the server.
#[test]
fn tier_passes_the_suite() {
    let Some(server) = Server::start("tier_passes_the_suite") else { return };
    let client = server.client();
    let maker = BackingMaker::new(move || tier_on(client.clone()));
    capabilities_are_those_listed(&maker, "redis", &["parts", "remote"]);
    for case in BACKING_CASES {
        println!("{}", case.name);
        (case.run)(&maker);
    }
    assert_eq!(server.keys(), 0, "keys that dropped tiers left");
}

/// A value that the server lost is gone, and can be written again. A read across the end of one
/// that was cut short is a failure, and a read behind its end is a miss.
#[test]
fn lost_value_is_gone() {
    let Some(server) = Server::start("lost_value_is_gone") else { return };
    let tier = tier_on(server.client());
    tier.write(FIRST, &[7; 100]).unwrap();
    let [key] = &server.run::<Vec<String>>(&["KEYS", "*"])[..] else { panic!("one key") };
    assert!(key.starts_with(tier.prefix()));
    server.run::<()>(&["SET", key, "short"]);
    assert!(matches!(read(&tier, FIRST), Err(BackingError::Failed(_))));
    assert!(matches!(tier.read(FIRST, 50, &mut [0; 50]), Err(BackingError::Gone)));
    server.run::<()>(&["FLUSHALL"]);
    assert!(matches!(read(&tier, FIRST), Err(BackingError::Gone)));
    tier.write(FIRST, &[8; 100]).unwrap();
    assert_eq!(read(&tier, FIRST).unwrap(), [8; 100]);
}

/// A server that restarts has lost everything, and the tier connects anew by itself.
#[test]
fn restarted_server_is_used_again() {
    let Some(server) = Server::start("restarted_server_is_used_again") else { return };
    let (port, tier) = (server.port, tier_on(server.client()));
    tier.write(FIRST, &[7; 100]).unwrap();
    drop(server);
    assert!(matches!(read(&tier, FIRST), Err(BackingError::Failed(_))));
    assert!(matches!(tier.write(SECOND, &[7; 100]), Err(BackingError::Failed(_))));
    assert!(matches!(tier.discard(FIRST), Err(BackingError::Failed(_))));
    let server = Server::start_on("restarted_server_is_used_again", port).unwrap();
    tier.write(SECOND, &[8; 100]).unwrap();
    assert_eq!(read(&tier, SECOND).unwrap(), [8; 100]);
    assert!(matches!(read(&tier, FIRST), Err(BackingError::Gone)));
    tier.discard(SECOND).unwrap();
    assert_eq!(server.keys(), 0);
}

/// A connection that the server closes, as it does with idle ones, fails no call.
#[test]
fn closed_connection_is_replaced() {
    let Some(server) = Server::start("closed_connection_is_replaced") else { return };
    let tier = tier_on(server.client());
    tier.write(FIRST, &[7; 100]).unwrap();
    for _ in 0..3 {
        server.run::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert_eq!(read(&tier, FIRST).unwrap(), [7; 100]);
    }
}

/// A server without memory is full, and keeps what it has.
#[test]
fn server_without_memory_is_full() {
    let Some(server) = Server::start("server_without_memory_is_full") else { return };
    let tier = tier_on(server.client());
    tier.write(FIRST, &[7; 100]).unwrap();
    server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(matches!(tier.write(SECOND, &[7; 100]), Err(BackingError::Full)));
    assert_eq!(read(&tier, FIRST).unwrap(), [7; 100]);
    assert!(matches!(read(&tier, SECOND), Err(BackingError::Gone)));
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    tier.write(SECOND, &[8; 100]).unwrap();
    assert_eq!(read(&tier, SECOND).unwrap(), [8; 100]);
}

/// Values expire if that is chosen, and keys of dropped tiers and discarded segments go.
#[test]
fn values_expire_and_keys_go() {
    let Some(server) = Server::start("values_expire_and_keys_go") else { return };
    let builder = RedisTier::builder(server.client(), 1 << 20).segment_bytes(SEGMENT_BYTES);
    let tier = builder.prefix("mine").expire_after(Duration::from_secs(3600)).build().unwrap();
    for n in 0..3 {
        tier.write(SegmentNumber::new(n), &[7; 10]).unwrap();
    }
    tier.discard(FIRST).unwrap();
    let keys: Vec<String> = server.run(&["KEYS", "mine:*"]);
    assert_eq!(keys.len(), 2);
    let left: i64 = server.run(&["PTTL", &keys[0]]);
    assert!((1..=3_600_000).contains(&left), "{left} ms");
    drop(tier);
    assert_eq!(server.keys(), 0);
}

/// A server that takes connections and never answers ends in a timeout.
#[test]
fn silent_server_ends_in_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let builder = RedisTier::builder(client, 1 << 20).segment_bytes(SEGMENT_BYTES);
    match builder.timeout(Duration::from_millis(30)).build() {
        Err(error) => assert!(matches!(error, RedisTierError::Connect(_)), "{error}"),
        Ok(tier) => {
            let error = tier.write(FIRST, &[7; 100]).unwrap_err();
            assert!(matches!(error, BackingError::Failed(_)), "{error}");
        }
    }
    drop(listener);
}

/// A tier without a server, of too few or too many segments, or of segments that are no values, is
/// an error.
#[test]
fn impossible_tiers_are_refused() {
    let nowhere = format!("redis://127.0.0.1:{}", free_port());
    let builder = |bytes| RedisTier::builder(Client::open(&*nowhere).unwrap(), bytes);
    let error = builder(1 << 30).build().unwrap_err();
    assert!(error.to_string().contains("cannot connect to the server"), "{error}");
    let error = builder(1000).build().unwrap_err();
    assert!(
        matches!(error, RedisTierError::Capabilities(CapabilitiesError::NoSegments)),
        "{error}"
    );
    let error = builder(1 << 40).segment_bytes((512 << 20) + 1).build().unwrap_err();
    assert!(matches!(error, RedisTierError::SegmentTooLong { .. }), "{error}");
    assert!(error.to_string().contains("choose at most 536870912"), "{error}");
    let error = builder(u64::MAX).build().unwrap_err();
    assert!(
        matches!(error, RedisTierError::Capabilities(CapabilitiesError::TooManySegments { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("at most 4294967295"), "{error}");
}
