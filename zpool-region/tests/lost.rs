//! S5: what the store refuses stays, and what it loses raises `SIGBUS`.

#![cfg(target_os = "linux")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use common::{MODES, Mode, PAGE, build, fill_noise, with_mode};
use zpool_region::{Region, RegionBuilder, RegionError};
use zswap::plugin::zpool_core::spec::PoolSpec;

const LEN: usize = 16 << 20;
const CHILD: &str = "ZPOOL_REGION_LOST";

/// A region whose store evicts, which is against its rules, and so loses units.
fn losing() -> RegionBuilder {
    let spec: PoolSpec = "zsmalloc+lz4".parse().unwrap();
    Region::builder()
        .len(LEN)
        .limit_bytes(8 << 20)
        .spec(spec)
        .store(|store| store.limit_bytes(4 << 20).at_limit(zswap::AtLimit::Evict))
}

/// Fills a region with what does not compress, and puts all of it away. Returns a page that is
/// lost.
fn lose(region: &mut Region) -> usize {
    fill_noise(region, 9);
    region.evict(0..LEN);
    let lost = (0..LEN).step_by(PAGE).find(|&at| region.hold(at..at + 1).is_err());
    lost.expect("the store cannot keep four times its limit")
}

/// An access to a lost unit raises `SIGBUS`: it neither hangs nor reads zeros.
#[test]
fn s5_lost_unit_raises_sigbus() {
    if let Ok(mode) = std::env::var(CHILD) {
        let mode = if mode == "signal" { Mode::Signal } else { Mode::Threads(1) };
        let Some(mut region) = build(with_mode(losing(), mode)) else { std::process::exit(77) };
        let lost = lose(&mut region);
        println!("read {}", region[lost]);
        return;
    }
    for mode in ["signal", "threads"] {
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "s5_lost_unit_raises_sigbus", "--nocapture"])
            .env(CHILD, mode)
            .status()
            .unwrap();
        if ended.code() == Some(77) {
            return;
        }
        assert_eq!(ended.signal(), Some(libc::SIGBUS), "{mode}: {ended:?}");
    }
}

/// A lost unit is reported by `hold` and counted, and can be discarded and used again.
#[test]
fn s5_lost_unit_can_be_discarded() {
    for mode in MODES {
        let Some(mut region) = build(with_mode(losing(), mode)) else { return };
        let lost = lose(&mut region);
        assert!(region.stats().units_poisoned > 0);
        let refused = region.hold_mut(lost..lost + 1);
        assert!(matches!(refused, Err(RegionError::Poisoned { at }) if at == lost));
        drop(refused);
        region.discard(0..LEN);
        assert!(region.iter().step_by(PAGE / 2).all(|&byte| byte == 0));
        region[lost] = 3;
        assert_eq!(region[lost], 3);
    }
}

/// A store that refuses units leaves them where they are: over the limit, and whole.
#[test]
fn s5_refused_unit_stays() {
    let builder = Region::builder()
        .len(LEN)
        .limit_bytes(8 << 20)
        .store(|store| store.limit_bytes(4 << 20).at_limit(zswap::AtLimit::Refuse));
    let Some(mut region) = build(builder) else { return };
    fill_noise(&mut region, 2);
    let mut expected = vec![0; LEN];
    fill_noise(&mut expected, 2);
    assert!(*region == *expected);
    let stats = region.stats();
    assert!(stats.stores_failed > 0 && stats.over_limit_bytes > 0, "{stats:?}");
    assert_eq!(stats.units_poisoned, 0);
}
