//! The generator's blocks: the same for a seed, of every length, and as compressible as a process's
//! memory.

use std::collections::BTreeMap;

use zpool_conformance::{Generator, Kind, MIX};

fn lz4_len(block: &[u8]) -> usize {
    let mut out = vec![0; lz4_flex::block::get_maximum_output_size(block.len())];
    lz4_flex::block::compress_into(block, &mut out).unwrap().min(block.len())
}

fn same_filled(block: &[u8]) -> bool {
    block.chunks(8).all(|word| word == &block[..word.len()])
}

/// A seed always makes the same blocks.
#[test]
fn seed_gives_the_same_blocks() {
    let blocks = |seed| Generator::new(seed).blocks(4096).take(60).collect::<Vec<_>>();
    assert_eq!(blocks(1), blocks(1));
    assert_ne!(blocks(1), blocks(2));
}

/// Blocks are the same on every machine.
#[test]
fn blocks_match_their_checksums() {
    // FNV-1a over 100 blocks. A change of the generator changes every figure measured with it, so
    // note it in the changelog.
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in Generator::new(2016).blocks(4096).take(100).flatten() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    assert_eq!(hash, 0x3030_C88E_B4F8_ABCE, "{hash:#x}");
}

#[test]
fn blocks_of_any_length_are_filled() {
    for len in [0, 1, 7, 1000, 1024, 2048, 4096, 16 << 10, 64 << 10] {
        let mut generator = Generator::new(len as u64);
        for (kind, _) in MIX {
            let mut block = vec![0xA5; len];
            generator.block_of(kind, &mut block);
            let untouched = block.windows(16).any(|w| w == [0xA5; 16]);
            assert!(!untouched, "{kind:?} of {len} bytes");
        }
    }
}

#[test]
fn kinds_come_by_their_weights() {
    assert_eq!(MIX.iter().map(|(_, weight)| weight).sum::<usize>(), 100);
    let (mut generator, mut seen, mut block) = (Generator::new(9), BTreeMap::new(), [0; 1024]);
    for _ in 0..10_000 {
        *seen.entry(generator.block(&mut block)).or_insert(0) += 1;
    }
    for (kind, weight) in MIX {
        let percent: usize = seen[&kind] / 100;
        assert!(
            percent.abs_diff(weight) <= 1 + weight / 8,
            "{kind:?}: {percent} of 100, weight {weight}"
        );
    }
}

/// Exactly the kinds that claim it are same-filled or incompressible.
#[test]
fn kinds_are_what_they_claim() {
    let (mut generator, mut block) = (Generator::new(3), [0; 4096]);
    for (kind, _) in MIX {
        for _ in 0..50 {
            generator.block_of(kind, &mut block);
            assert_eq!(same_filled(&block), matches!(kind, Kind::Zero | Kind::Pattern), "{kind:?}");
            assert_eq!(lz4_len(&block) == 4096, kind == Kind::Incompressible, "{kind:?}");
        }
    }
}

/// The mix shrinks as much as the pages of live processes.
#[test]
fn mix_shrinks_like_live_pages() {
    for (block_size, least, most) in [(1024, 1.8, 3.0), (4096, 2.3, 2.9), (64 << 10, 2.3, 4.0)] {
        let (mut generator, mut all, mut by_kind) = (Generator::new(5), (0, 0), BTreeMap::new());
        let mut block = vec![0; block_size];
        for _ in 0..(2000 * 4096 / block_size).clamp(400, 4000) {
            let kind = generator.block(&mut block);
            let len = lz4_len(&block);
            let (blocks, bytes) = by_kind.entry(kind).or_insert((0, 0));
            (*blocks, *bytes) = (*blocks + 1, *bytes + len);
            if !same_filled(&block) {
                all = (all.0 + block_size, all.1 + len);
            }
        }
        let ratio = all.0 as f64 / all.1 as f64;
        println!("{block_size}: {ratio:.2}");
        for (kind, (blocks, bytes)) in by_kind {
            println!("  {kind:?}: {:.2}", (blocks * block_size) as f64 / bytes as f64);
        }
        assert!(
            (least..most).contains(&ratio),
            "blocks of {block_size} bytes shrink {ratio:.2} times"
        );
    }
}
