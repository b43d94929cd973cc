//! A server on tokio that uses a store without blocking its reactor, while its compressor is
//! switched under load: `cargo run -p zswap --example tokio_server`.
//!
//! - *Loads* run on the reactor's threads: a look-up and a decompression of some microseconds that
//!   never waits for another thread. They run inside a [`NoBlock`] section here, and the check
//!   policy is to panic, so the claim is tested.
//! - *Stores* may ask the system for memory and may have to evict. They are collected in a channel,
//!   and a blocking thread runs them in batches.
//! - *Switches* build pools, so they run on a blocking thread as well. Pools are destroyed by the
//!   worker of the process, or by a thread that switches, flushes or drops a store: never by the
//!   reactor.
//!
//! The protocol: `S key len bytes` and `G key`, numbers little-endian; the answer is a length and
//! that many bytes, 0 for none. The clients are tasks of the same program; each knows what it
//! stored, and compares.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use zpool_conformance::RleDriver;
use zpool_core::{CheckPolicy, NoBlock, set_check_policy};
use zswap::{AtLimit, Store};

const CLIENTS: u64 = 4;
const REQUESTS: u64 = 1_500;
const KEYS: u64 = 64;

/// A block to be stored, and the sender that reports the result.
type Order = (u64, Vec<u8>, oneshot::Sender<bool>);

/// Stores what arrives, as much at a time as there is. Runs on a blocking thread, and ends when all
/// senders are dropped.
fn writer(store: &Store<u64>, mut orders: mpsc::Receiver<Order>) {
    let mut batch = Vec::new();
    while let Some(first) = orders.blocking_recv() {
        batch.push(first);
        while batch.len() < 64
            && let Ok(order) = orders.try_recv()
        {
            batch.push(order);
        }
        let results =
            store.store_many(batch.iter().map(|(key, block, _)| (*key, block.as_slice())));
        for ((_, _, done), result) in batch.drain(..).zip(results) {
            // An error means that the connection is gone, and its task with it.
            let _ = done.send(result.is_ok());
        }
    }
}

/// Serves one connection until it closes.
async fn serve(
    mut stream: TcpStream,
    store: Store<u64>,
    orders: mpsc::Sender<Order>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut block = vec![0; store.block_size()];
    loop {
        let Ok(what) = stream.read_u8().await else { return Ok(()) };
        let key = stream.read_u64_le().await?;
        if what == b'S' {
            let len = stream.read_u32_le().await? as usize;
            if len > store.block_size() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut block = vec![0; len];
            stream.read_exact(&mut block).await?;
            let (done, stored) = oneshot::channel();
            orders.send((key, block, done)).await.map_err(io::Error::other)?;
            stream.write_u32_le(u32::from(stored.await.unwrap_or(false))).await?;
        } else {
            let len = {
                let _reactor = NoBlock::enter();
                store.load(&key, &mut block).map_err(|error| io::Error::other(error.to_string()))?
            };
            stream.write_u32_le(len.unwrap_or(0) as u32).await?;
            stream.write_all(&block[..len.unwrap_or(0)]).await?;
        }
    }
}

/// Returns the block of a version of a key. It consists of runs, so that both compressors shrink
/// it.
fn block(key: u64, version: u64) -> Vec<u8> {
    let byte = |i: u64| (key ^ version.wrapping_mul(31) ^ (i / 40)) as u8;
    (0..200 + (key * 37 + version * 101) % 3_800).map(byte).collect()
}

/// Stores and loads under keys of its own, and compares. Returns how many blocks it loaded.
async fn client(number: u64, address: std::net::SocketAddr) -> io::Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut versions, mut loaded) = (vec![None; KEYS as usize], 0);
    for n in 0..REQUESTS {
        let slot = (n * 7 + number) % KEYS;
        let (key, version) = (number * KEYS + slot, &mut versions[slot as usize]);
        if n % 3 == 0 {
            let block = block(key, n);
            stream.write_u8(b'S').await?;
            stream.write_u64_le(key).await?;
            stream.write_u32_le(block.len() as u32).await?;
            stream.write_all(&block).await?;
            assert_eq!(stream.read_u32_le().await?, 1, "a store never fails because of a switch");
            *version = Some(n);
        } else {
            stream.write_u8(b'G').await?;
            stream.write_u64_le(key).await?;
            let mut answer = vec![0; stream.read_u32_le().await? as usize];
            stream.read_exact(&mut answer).await?;
            assert_eq!(
                answer,
                version.map_or(Vec::new(), |version| block(key, version)),
                "key {key}"
            );
            loaded += u64::from(version.is_some());
        }
    }
    Ok(loaded)
}

async fn run(store: Store<u64>) -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (orders, incoming) = mpsc::channel(256);
    let writing = tokio::task::spawn_blocking({
        let store = store.clone();
        move || writer(&store, incoming)
    });
    let accepting = tokio::spawn({
        let store = store.clone();
        async move {
            for _ in 0..CLIENTS {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(serve(stream, store.clone(), orders.clone()));
            }
            io::Result::Ok(())
        }
    });
    let (stop, switches) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let switching = tokio::task::spawn_blocking({
        let (store, stop, switches) = (store.clone(), stop.clone(), switches.clone());
        move || {
            for compressor in ["rle", "lz4"].into_iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let compressor = compressor.parse().expect("a compressor's name");
                store.set_compressor(&compressor).expect("both compressors are registered");
                switches.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    });
    let mut clients = tokio::task::JoinSet::new();
    (0..CLIENTS).for_each(|number| drop(clients.spawn(client(number, address))));
    let mut loaded = 0;
    while let Some(done) = clients.join_next().await {
        loaded += done??;
    }
    accepting.await??;
    stop.store(true, Ordering::Relaxed);
    switching.await?;
    // The last sender was dropped with the last connection.
    writing.await?;
    Ok((loaded, switches.load(Ordering::Relaxed)))
}

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let before = set_check_policy(CheckPolicy::Panic);
    let store: Store<u64> = Store::builder()
        .compressor(Arc::new(RleDriver))
        .limit_bytes(64 << 20)
        .at_limit(AtLimit::Evict)
        .build()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (loaded, switches) = runtime.block_on(run(store.clone()))?;
    drop(runtime);
    let stats = store.stats();
    println!("{loaded} blocks loaded and compared, {switches} switches meanwhile\n{stats}");
    assert!(loaded > CLIENTS * REQUESTS / 4 && switches > 2);
    assert_eq!((stats.rejected.total(), stats.manager.destroyed_on_caller), (0, 0));
    store.clear();
    store.manager().flush()?;
    assert_eq!(store.stats().manager.pools_alive, 1, "only the current pool is left");
    set_check_policy(before);
    Ok(())
}
