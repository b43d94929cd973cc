//! A table against a set, with hashes of every kind and in every order.

use std::cell::Cell;
use std::collections::HashSet;

use super::segment::{LOAD, LOAD_OF};
use super::*;
use crate::index::packed_entry::{EntryState, PackedEntry};
use crate::index::packed_meta::PackedLen;

fn item(key: u64) -> KeyedEntry<u64> {
    (
        key,
        PackedEntry::SameFilled {
            word: key.to_le_bytes(),
            len: PackedLen::new(8),
            state: EntryState::default(),
        },
    )
}

fn hash(key: &u64) -> u64 {
    let mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

fn add(table: &mut Table<u64>, key: u64, hash: &impl Fn(&u64) -> u64) -> Result<(), NoRoom> {
    if table.is_sparse() {
        table.tidy(false, hash);
    }
    table.make_room(hash(&key), hash)?;
    table.insert(hash(&key), item(key), key as u32 ^ 77).map_err(|_| NoRoom)
}

fn delete(table: &mut Table<u64>, key: u64, hash: &impl Fn(&u64) -> u64) {
    let at = table.find(hash(&key), |k| *k == key).expect("a key that is there");
    assert_eq!(table.remove(at).unwrap().0, key);
}

/// Checks that every key is found where it is, and that the directory and the counts match the
/// segments.
fn check(table: &Table<u64>, hash: &impl Fn(&u64) -> u64) {
    for (key, _) in table.iter() {
        let at = table.find(hash(key), |k| k == key).expect("a key that is there");
        assert_eq!(table.get(at).unwrap().0, *key);
        if table.with_sums {
            assert_eq!(table.sum(at), *key as u32 ^ 77);
        }
    }
    assert_eq!(table.iter().count(), table.len());
    let segments = || std::iter::once(&table.first).chain(&table.more);
    assert_eq!(segments().map(Segment::buckets).sum::<usize>(), table.buckets);
    assert_eq!(segments().map(Segment::bytes).sum::<usize>(), table.array_bytes);
    let mut next = Some(0);
    while let Some(start) = next {
        let segment = table.segment(table.number(start));
        assert_eq!(segment.range().start, start);
        next = segment.range().end();
    }
}

/// Returns the entries that the hand of a clock visits in one turn.
fn walk(table: &Table<u64>) -> Vec<u64> {
    let (mut keys, mut position) = (Vec::new(), Position::default());
    loop {
        match table.seek(position, 5) {
            Seek::Found(at, found) => {
                keys.push(table.get(at).unwrap().0);
                match table.behind(at, found) {
                    Some(behind) => position = behind,
                    None => return keys,
                }
            }
            Seek::Nothing(behind) => position = behind,
            Seek::End => return keys,
        }
    }
}

fn key_batches(table: &Table<u64>) -> Vec<u64> {
    let (mut keys, mut next) = (Vec::new(), Some(Position::default()));
    while let Some(from) = next {
        let (stretch, behind) = table.stretch(from);
        let len = stretch.len();
        keys.extend(stretch.items().map(|(key, _)| *key));
        assert!(keys.len() >= len);
        next = behind;
    }
    keys
}

fn sorted(mut keys: Vec<u64>) -> Vec<u64> {
    keys.sort_unstable();
    keys
}

/// Equal operations on a table and a set leave the same keys, whatever the hashes are like.
#[test]
fn table_agrees_with_set_for_any_hash() {
    let hashes: [fn(&u64) -> u64; 6] = [
        hash,
        |key| key << 50,
        |_| u64::MAX,
        |key| hash(key) | 0xFFFF_0000_0000_0000,
        |key| hash(key) >> 20,
        |key| key % 4,
    ];
    for (n, hash) in hashes.into_iter().enumerate() {
        let (mut table, mut set) = (Table::new(n % 2 == 0), HashSet::new());
        let mut state = 1u64;
        for step in 0..16_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // More and more keys, then fewer and fewer.
            let grows = step < 8_000;
            let key = (state >> 33) % 2_500;
            match (set.contains(&key), state >> 61) {
                (true, 0..2) | (true, 0..6) if !grows || state >> 61 < 2 => {
                    delete(&mut table, key, &hash);
                    set.remove(&key);
                }
                (false, 0..6) | (false, _) if grows || state >> 61 < 2 => {
                    add(&mut table, key, &hash).unwrap();
                    set.insert(key);
                }
                _ => {}
            }
            if step % 2_000 == 1_999 {
                check(&table, &hash);
                assert_eq!(
                    sorted(table.iter().map(|(key, _)| *key).collect()),
                    sorted(set.iter().copied().collect())
                );
                assert_eq!(sorted(walk(&table)), sorted(set.iter().copied().collect()), "hash {n}");
                assert_eq!(sorted(key_batches(&table)), sorted(set.iter().copied().collect()));
                table.shrink(&hash);
                check(&table, &hash);
            }
        }
    }
}

/// Keys that come in the order of their hashes, up or down, cost hardly more than others, and leave
/// a table that is as dense once it is tidied.
#[test]
fn keys_in_table_order_are_spread() {
    let most = 60_000u64;
    let mut order: Vec<u64> = (0..most).collect();
    order.sort_unstable_by_key(hash);
    let reversed: Vec<u64> = order.iter().rev().copied().collect();
    let random: Vec<u64> = (0..most).collect();
    let calls = Cell::new(0);
    let hash = |key: &u64| {
        calls.set(calls.get() + 1);
        hash(key)
    };
    for (name, keys) in [("up", order), ("down", reversed), ("random", random)] {
        let (mut table, mut cost) = (Table::new(false), 0);
        for &key in &keys {
            add(&mut table, key, &hash).unwrap();
            cost += table.segment(table.number(hash(&key))).cost_of_inserts();
        }
        // Buckets passed and moved by an insert, and hashes computed for it.
        assert!(cost / keys.len() < 250, "{name}: {} buckets", cost / keys.len());
        assert!(calls.take() / keys.len() < 20, "{name}");
        check(&table, &hash);
        assert!(table.stash.is_empty(), "{name}");
        assert!(
            table.buckets < 2 * keys.len() + 2 * max_buckets::<u64>(),
            "{name}: {} buckets",
            table.buckets
        );
        table.shrink(&hash);
        check(&table, &hash);
        assert!(table.buckets < keys.len() * 3 / 2, "{name}: {} buckets", table.buckets);
    }
}

/// A table that grew by keys in random order has little unused memory.
#[test]
fn growing_table_is_nearly_full() {
    let mut table = Table::new(false);
    for key in 0..100_000u64 {
        add(&mut table, key, &hash).unwrap();
        if key > 1_000 {
            assert!(
                table.buckets * 70 <= (table.len() + 64) * 100,
                "{} buckets for {key}",
                table.buckets
            );
        }
    }
    check(&table, &hash);
    assert!(table.more.len() > 30, "it has split");
}

/// Keys of one hash are kept, any number of them, and so are those of a few hashes.
#[test]
fn equal_hashes_are_kept() {
    for hash in [|_: &u64| 0, |_: &u64| u64::MAX, |key: &u64| (key % 3) << 62] {
        let mut table = Table::new(true);
        for key in 0..4_000 {
            add(&mut table, key, &hash).unwrap();
        }
        check(&table, &hash);
        assert_eq!(sorted(walk(&table)), (0..4_000).collect::<Vec<_>>());
        assert!(
            table.bytes() < 4_000 * 6 * size_of::<Option<KeyedEntry<u64>>>(),
            "{} bytes",
            table.bytes()
        );
        (0..4_000).for_each(|key| delete(&mut table, key, &hash));
        assert_eq!(table.len(), 0);
        table.shrink(&hash);
        assert_eq!(table.bytes(), 0);
    }
}

/// Hashes that crowd in one place make neither the directory nor the segments grow without end.
#[test]
fn crowded_hashes_cost_bounded_memory() {
    let crowd = |key: &u64| 0xABCD_EF01_2300_0000 | key & 0xFF_FFFF;
    let mut table = Table::new(false);
    for key in 0..5_000 {
        add(&mut table, key, &crowd).unwrap();
    }
    check(&table, &crowd);
    assert!(
        table.bytes() < 5_000 * 6 * size_of::<Option<KeyedEntry<u64>>>(),
        "{} bytes",
        table.bytes()
    );
}

/// A table whose entries were removed becomes small by itself, while others are inserted and
/// removed.
#[test]
fn sparse_table_shrinks_by_itself() {
    let mut table = Table::new(true);
    (0..50_000).for_each(|key| add(&mut table, key, &hash).unwrap());
    let full = table.bytes();
    (100..50_000).for_each(|key| delete(&mut table, key, &hash));
    assert!(table.surplus() > full / 2);
    for key in 50_000..51_000 {
        add(&mut table, key, &hash).unwrap();
        delete(&mut table, key, &hash);
    }
    check(&table, &hash);
    assert!(table.bytes() * 50 < full, "{} bytes of {full}", table.bytes());
    table.shrink(&hash);
    check(&table, &hash);
    assert_eq!((table.depth, table.directory.capacity(), table.more.len()), (0, 0, 0));
}

/// A `Hash` that panics while a segment is rebuilt, split or merged changes nothing.
#[test]
fn panicking_hash_changes_nothing() {
    let calls = Cell::new(0u64);
    let fuse = Cell::new(u64::MAX);
    let hostile = |key: &u64| {
        calls.set(calls.get() + 1);
        assert!(calls.get() <= fuse.get(), "a hash that panics");
        hash(key)
    };
    let mut table = Table::new(false);
    let mut panics = 0;
    for key in 0..6_000 {
        calls.set(0);
        fuse.set(if key % 3 == 0 { key % 97 + 3 } else { u64::MAX });
        let len = table.len();
        let added = std::panic::AssertUnwindSafe(|| add(&mut table, key, &hostile));
        if std::panic::catch_unwind(added).is_err() {
            panics += 1;
            assert_eq!(table.len(), len);
            fuse.set(u64::MAX);
            add(&mut table, key, &hash).unwrap();
        }
    }
    check(&table, &hash);
    for key in 200..6_000 {
        delete(&mut table, key, &hash);
        calls.set(0);
        fuse.set(key % 50);
        let tidied = std::panic::AssertUnwindSafe(|| table.tidy(true, &hostile));
        panics += u64::from(std::panic::catch_unwind(tidied).is_err());
    }
    check(&table, &hash);
    assert!((table.len(), panics > 100) == (200, true), "{panics} panics");
}

/// The hand of a clock stays where it is in the order of hashes while tables grow and shrink under
/// it, so that it visits every entry within a turn.
#[test]
fn hand_keeps_its_place_across_resizes() {
    let mut table = Table::new(false);
    (0..30_000).for_each(|key| add(&mut table, key, &hash).unwrap());
    let mut position = Position { stashed: 0, hash: 1 << 63 };
    let before = table.buckets;
    (30_000..90_000).for_each(|key| add(&mut table, key, &hash).unwrap());
    assert!(table.buckets > 2 * before);
    let mut seen = Vec::new();
    loop {
        match table.seek(position, 100) {
            Seek::Found(at, found) => {
                seen.push(table.get(at).unwrap().0);
                let Some(behind) = table.behind(at, found) else { break };
                position = behind;
            }
            Seek::Nothing(behind) => position = behind,
            Seek::End => break,
        }
    }
    let upper = (0..90_000).filter(|key| hash(key) >= 1 << 63).count();
    // At the borders of segments some entries lie behind the bucket of their hash.
    assert!(seen.len().abs_diff(upper) < 100, "{} of {upper}", seen.len());
}

/// How far entries are from home in a full segment: groups in sequence hardly at all, groups at
/// random by dozens of buckets. `docs/decisions/0023` has the figures.
#[test]
fn neighbours_stay_near_home() {
    let group = |key: &u64, hash: fn(&u64) -> u64| {
        hash(&(key >> NEIGHBOUR_BITS)) & !(NEIGHBOURS - 1) | (key % NEIGHBOURS)
    };
    let golden = |key: &u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let far = |hash: &dyn Fn(&u64) -> u64| {
        let mut table = Table::new(false);
        (0..10_000).for_each(|key| add(&mut table, key, &|key| hash(key)).unwrap());
        check(&table, &|key| hash(key));
        let distances = || table.iter().map(|(_, entry)| entry.state().distance());
        (distances().sum::<usize>() / 10_000, distances().max().unwrap())
    };
    let sequence = far(&|key| group(key, golden));
    let random = far(&|key| group(key, hash));
    let single = far(&hash);
    assert!(sequence.0 <= 1 && sequence.1 <= 16, "in sequence: {sequence:?}");
    assert!(random.0 <= 40 && random.1 <= 400, "at random: {random:?}");
    assert!(single.0 <= 4 && single.1 <= 60, "single entries: {single:?}");
}

/// A segment leaves one bucket empty at any load, so that a search ends.
#[test]
fn load_leaves_empty_buckets() {
    const { assert!(LOAD < LOAD_OF) };
    let mut segment = Segment::<u64>::with_buckets(Range::ALL, 100, false).unwrap();
    let inserted = (0..200).filter(|&key| segment.insert(hash(&key), item(key)).is_ok()).count();
    assert_eq!((inserted, segment.len()), (99, 99));
    assert!(segment.find(hash(&77_777), |key| *key == 77_777).is_none());
}

/// Items that their segment does not take are found in the stash, and counted.
#[test]
fn refill_beyond_segment_goes_to_stash() {
    const KEYS: u64 = 100;
    for buckets in [0, 8, 64] {
        let mut table = Table::new(true);
        let mut old = Table::new(true);
        (0..KEYS).for_each(|key| add(&mut old, key, &hash).unwrap());
        table.first = Segment::with_buckets(Range::ALL, buckets, true).unwrap();
        (table.buckets, table.array_bytes) = (table.first.buckets(), table.first.bytes());
        table.len = old.len();
        let hashes: Vec<u64> = old.iter().map(|(key, _)| hash(key)).collect();
        table.refill(old.drain(), &hashes);
        assert_eq!(
            (table.len() as u64, table.stash.len() >= (KEYS as usize) - buckets),
            (KEYS, true)
        );
        check(&table, &hash);
    }
}

/// Keys in any order, and groups of neighbours at random places, take few slots for each entry.
#[test]
fn slots_for_an_entry_are_few() {
    let keys = 0..125_000u64;
    let random: Vec<u64> = keys.clone().map(|key| hash(&key)).collect();
    let grouped: Vec<u64> = keys.map(|key| (hash(&(key / 8)) & !7) | (key % 8)).collect();
    let mut in_order = random.clone();
    in_order.sort_unstable();
    for (name, hashes, most) in
        [("random", random, 1.25), ("grouped", grouped, 1.4), ("in order", in_order, 1.5)]
    {
        let mut table = Table::new(false);
        hashes.iter().for_each(|&key| add(&mut table, key, &|key: &u64| *key).unwrap());
        let slots = table.buckets as f64 / hashes.len() as f64;
        println!("{name}: {slots:.3} slots for each entry");
        assert!(slots < most, "{name}: {slots}");
    }
}
