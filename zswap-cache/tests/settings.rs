//! Settings: their text forms, what contradicts, and what a configuration changes.

use std::time::Duration;

use zswap_cache::{ByteSize, Cache, CacheBuildError, CacheSettings, TimeSpan};

/// Sizes and times are read in the units that people write, and written so that they are read.
#[test]
fn sizes_and_times_read_as_written() {
    let sizes = [("0", 0), ("512", 512), ("512B", 512), ("1.5KiB", 1536), ("64MiB", 64 << 20)];
    for (text, bytes) in sizes.into_iter().chain([("2GiB", 2 << 30), (" 1 TiB", 1 << 40)]) {
        let size: ByteSize = text.parse().unwrap();
        assert_eq!(size.bytes(), bytes, "{text}");
        assert_eq!(size.to_string().parse(), Ok(size));
    }
    let times = [("250ms", 250), ("10s", 10_000), ("1.5h", 5_400_000), ("7d", 604_800_000)];
    for (text, millis) in times.into_iter().chain([("10m", 600_000), ("0.001s", 1), ("0s", 0)]) {
        let time: TimeSpan = text.parse().unwrap();
        assert_eq!(time.duration(), Duration::from_millis(millis), "{text}");
        assert_eq!(time.to_string().parse(), Ok(time));
    }
    for text in ["", "MiB", "-1KiB", "1e3", "1.KiB", "1..5KiB", "9999999999TiB", "5 apples"] {
        assert!(text.parse::<ByteSize>().is_err(), "{text}");
    }
    for text in ["", "10", "s", "1.5", "1 week", "99999999999999999999d"] {
        assert!(text.parse::<TimeSpan>().is_err(), "{text}");
    }
}

/// A text of settings comes back, and what is wrong in one is named.
#[test]
fn settings_text_names_what_is_wrong() {
    let text = "limit=64MiB time_to_live=10m time_to_idle=90s max_wait=250ms pinned_percent=10 \
                block_size=4KiB max_value_len=1MiB spec=zsmalloc(chain=8)+lz4";
    let settings: CacheSettings = text.parse().unwrap();
    assert_eq!(settings.to_string(), text);
    assert_eq!("".parse(), Ok(CacheSettings::default()));
    for (text, named) in [
        ("limits=1", "`limits` is not a setting"),
        ("limit", "write `name=value`"),
        ("limit=big", "`limit=big`"),
        ("limit=1MiB limit=2MiB", "given twice"),
        ("pinned_percent=300", "`pinned_percent=300`"),
        ("spec=+", "`spec=+`"),
    ] {
        let error = text.parse::<CacheSettings>().unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

/// A cache has what its settings say, and what contradicts is an error.
#[test]
fn builder_takes_settings_and_refuses_contradictions() {
    let settings = "limit=8MiB block_size=1KiB max_value_len=2KiB time_to_live=5s".parse().unwrap();
    let cache: Cache<u64> = Cache::builder().settings(&settings).build().unwrap();
    let store = cache.store();
    assert_eq!((store.block_size(), store.max_value_len()), (1024, 2048));
    assert_eq!(cache.limit_bytes(), Some(8 << 20));
    cache.insert(1, "one").unwrap();
    assert!(matches!(cache.expires_in(&1), Some(Some(time)) if time <= Duration::from_secs(5)));
    let refused = Cache::<u64>::builder().pinned_percent(101).build().unwrap_err();
    assert!(matches!(refused, CacheBuildError::PinnedPercent(101)), "{refused}");
    let refused = Cache::<u64>::builder().limit_bytes(1).build().unwrap_err();
    assert!(refused.to_string().contains("limit_bytes(1)"), "{refused}");
    let unstamped = Cache::<u64, _, _>::unstamped_builder().time_to_live(Duration::from_secs(1));
    let refused = unstamped.build().unwrap_err();
    assert!(refused.to_string().contains("time_to_live"), "{refused}");
}

/// Without stamps an entry costs what it costs in a store; a stamp adds its 24 bytes.
#[test]
fn stamps_cost_what_is_documented() {
    let plain = zswap::Store::<u64>::builder().build().unwrap();
    let unstamped = Cache::unstamped_builder().build().unwrap();
    let stamped: Cache<u64> = Cache::builder().build().unwrap();
    for key in 0..50_000u64 {
        plain.store(key, [0; 64]).unwrap();
        unstamped.insert(key, [0; 64]).unwrap();
        stamped.insert(key, [0; 64]).unwrap();
    }
    let bytes = |held: usize, empty: usize| (held - empty) as f64 / 50_000.0;
    let empty = zswap::Store::<u64>::builder().build().unwrap().bytes_held();
    let plain = bytes(plain.bytes_held(), empty);
    let unstamped = bytes(unstamped.bytes_held(), empty);
    let stamped = bytes(stamped.bytes_held(), empty);
    // Tables are filled to 29/32 and grow by 1/8, from seeds of their own.
    assert!((unstamped / plain - 1.0).abs() < 0.1, "{unstamped} and {plain} bytes");
    assert!((stamped - plain - 24.0).abs() < 8.0, "{stamped} and {plain} bytes");
}

#[cfg(feature = "serde")]
mod serde {
    use super::*;

    /// Settings are a map of texts, and statistics one of numbers.
    #[test]
    fn settings_and_stats_as_json() {
        let json = r#"{"limit":"64MiB","time_to_live":"10m","spec":"zsmalloc+lz4"}"#;
        let settings: CacheSettings = serde_json::from_str(json).unwrap();
        assert_eq!(settings.to_string(), "limit=64MiB time_to_live=10m spec=zsmalloc+lz4");
        let again = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<CacheSettings>(&again).unwrap(), settings);
        for wrong in [r#"{"limits":"1"}"#, r#"{"limit":"big"}"#, r#"{"spec":"+"}"#] {
            assert!(serde_json::from_str::<CacheSettings>(wrong).is_err(), "{wrong}");
        }
        let cache: Cache<u64> = Cache::builder().build().unwrap();
        cache.insert(1, "one").unwrap();
        let stats = serde_json::to_value(cache.stats()).unwrap();
        assert_eq!((&stats["entries"], &stats["value_bytes"]), (&1.into(), &3.into()));
    }
}

#[cfg(feature = "bytes")]
mod bytes {
    use super::*;
    use ::bytes::Bytes;

    /// `Bytes` go in and come out.
    #[test]
    fn bytes_in_and_out() {
        let cache: Cache<String> = Cache::builder().build().unwrap();
        cache.insert("a".into(), Bytes::from_static(b"one")).unwrap();
        assert_eq!(cache.get_bytes("a").unwrap(), Some(Bytes::from_static(b"one")));
        let load = || Ok::<_, ()>(Bytes::from_static(b"two"));
        assert_eq!(cache.try_get_or_insert_bytes_with("b", load).unwrap(), "two");
        assert_eq!(cache.get_bytes("c").unwrap(), None);
    }
}
