//! Trains a dictionary on the cold blocks of a store, and gives it to the cold pool if it pays.
//!
//! `cargo run --release -p zswap --features zstd --example cold_dictionary`

use std::error::Error;
use std::time::Duration;

use zpool_zstd::{TrainError, remember, train_and_judge};
use zswap::{PoolSpec, Store};

const BLOCKS: usize = 8000;
/// One block in this many stays hot.
const HOT_INTERVAL: usize = 10;
/// The number of cold blocks that the dictionary is trained and judged on.
const SAMPLE_BLOCKS: usize = 4000;
const DICTIONARY_BYTES: usize = 4096;
const LEVEL: i32 = 1;

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn Error>> {
    for (name, block) in [("orders", order as fn(usize) -> Vec<u8>), ("noise", noise)] {
        let store = store_with_cold_blocks(block)?;
        let Some(spec) = dictionary_that_pays(name, &store.sample_cold(SAMPLE_BLOCKS)?)? else {
            continue;
        };
        let before = store.stats();
        store.set_cold(&spec)?;
        // One turn of the clock moves everything over. It runs by itself, too, and so may a drain.
        let turn = store.turn_heat_clock();
        store.manager().flush()?;
        let after = store.stats();
        println!(
            "{name}: {} blocks moved over, {} bytes became {}",
            turn.moved_over, before.payload_bytes, after.payload_bytes
        );
        assert!(after.payload_bytes < before.payload_bytes, "it was judged to take fewer bytes");
        assert_eq!(after.manager.pools_alive, 2, "the previous cold pool is gone");
        for key in 0..BLOCKS {
            assert_eq!(store.load_vec(&key)?, Some(block(key)));
        }
    }
    Ok(())
}

/// Returns a store whose blocks are cold, except for one in [`HOT_INTERVAL`].
fn store_with_cold_blocks(block: fn(usize) -> Vec<u8>) -> Result<Store<usize>, Box<dyn Error>> {
    let store = Store::builder()
        .spec("zsmalloc+lz4".parse()?)
        .cold(format!("zsmalloc+zstd(level={LEVEL})").parse()?)
        .cold_turn(Duration::from_secs(3600))
        .build()?;
    for key in 0..BLOCKS {
        store.store(key, block(key))?;
    }
    // A block is cold if two turns in a row find it without heat.
    for _ in 0..3 {
        for key in (0..BLOCKS).step_by(HOT_INTERVAL) {
            store.load_vec(&key)?;
        }
        store.turn_heat_clock();
    }
    Ok(store)
}

/// Trains a dictionary on some of the blocks and judges it on the others. Returns the spec of a
/// cold pool that uses it, or `None` if it does not pay.
fn dictionary_that_pays(name: &str, cold: &[Vec<u8>]) -> Result<Option<PoolSpec>, Box<dyn Error>> {
    match train_and_judge(cold, LEVEL, DICTIONARY_BYTES) {
        Ok(trained) => {
            println!("{name}: a dictionary pays {}", trained.verdict);
            let dictionary = remember(&trained.dictionary)?;
            Ok(Some(format!("zsmalloc+zstd(level={LEVEL},dict={dictionary})").parse()?))
        }
        Err(error @ (TrainError::Refused(_) | TrainError::NothingShared { .. })) => {
            println!("{name}: no dictionary, {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns a record of a kind that an application may keep many of.
fn order(n: usize) -> Vec<u8> {
    let lines = (0..2 + n % 3).map(|line| {
        let item = (n * 31 + line * 7) % 997;
        format!(
            "{{\"item\":\"{:08x}\",\"count\":{},\"price\":{}.99,\"shipped\":false}}",
            item * 0x9E37,
            line % 4 + 1,
            item % 80
        )
    });
    let lines: Vec<String> = lines.collect();
    format!("{{\"order\":{n},\"customer\":\"c{}\",\"lines\":[{}]}}", n * 17 % 5000, lines.join(","))
        .into_bytes()
}

/// Returns bytes that no codec shrinks, such as those of an encrypted record.
fn noise(n: usize) -> Vec<u8> {
    let mut state = n as u64;
    let mut next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    (0..40).flat_map(|_| next().to_le_bytes()).collect()
}
