//! The driver: creates pools from parameters.

use zpool_core::spec::Params;
use zpool_core::{Capabilities, CreateError, PoolConfig, ZPool, ZPoolDriver};

use crate::geometry::size_class::{ClassConfig, EXPECTED_CHAIN, EXPECTED_STEP, SizeClass};
use crate::geometry::table_cache;
use crate::zsmalloc::Zsmalloc;

/// Creates [`Zsmalloc`] pools: `zsmalloc`, `zsmalloc(chain=16,step=8)`, `zsmalloc(compact=off)`.
///
/// - `step`: bytes between size classes, a power of two from 8 to 256. Default:
///   [`ClassConfig::DEFAULT_STEP`].
/// - `chain`: the most frames of a zspage, 1 to 64. Default: [`ClassConfig::DEFAULT_CHAIN`].
/// - `compact`: with `auto`, the pool's executor compacts if there is enough to gain; with `off`,
///   only explicit calls compact. Default: `auto`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ZsmallocDriver;

const KNOWN: &str = "chain=1..64, compact=auto|off, step=8..256";
const COMPACT: &str = "compact";
const EXPECTED_COMPACT: &str = "`auto` or `off`";

/// The parsed parameters.
#[derive(Debug, PartialEq, Eq)]
struct ZsmallocParams {
    step: usize,
    chain: usize,
    compact: bool,
}

impl ZsmallocDriver {
    /// Returns the driver, which has no state.
    pub const fn new() -> ZsmallocDriver {
        ZsmallocDriver
    }

    /// Returns the size classes of the pools that `create` would make with this configuration,
    /// smallest first.
    ///
    /// # Errors
    ///
    /// As for `create`.
    pub fn classes(&self, config: &PoolConfig) -> Result<Vec<SizeClass>, CreateError> {
        Ok(table_cache::table(class_config(config, &settings(&config.params)?))?.classes().to_vec())
    }
}

impl ZPoolDriver for ZsmallocDriver {
    fn name(&self) -> &str {
        "zsmalloc"
    }

    fn canonical(&self, params: &Params) -> Result<Params, CreateError> {
        let settings = settings(params)?;
        let mut canonical = Params::default();
        if settings.chain != ClassConfig::DEFAULT_CHAIN {
            canonical.set("chain", settings.chain.to_string());
        }
        if !settings.compact {
            canonical.set(COMPACT, "off");
        }
        if settings.step != ClassConfig::DEFAULT_STEP {
            canonical.set("step", settings.step.to_string());
        }
        Ok(canonical)
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        let settings = settings(&config.params)?;
        let table = table_cache::table(class_config(config, &settings))?;
        Ok(Box::new(Zsmalloc::new(config, table, settings.compact)))
    }

    fn capabilities(&self, config: &PoolConfig) -> Result<Capabilities, CreateError> {
        class_config(config, &settings(&config.params)?).check()?;
        Ok(Capabilities::new(config.max_object_len).compacting().estimating().wiping())
    }
}

fn class_config(config: &PoolConfig, settings: &ZsmallocParams) -> ClassConfig {
    ClassConfig {
        frame_size: config.source.frame_size(),
        step: settings.step,
        chain: settings.chain,
        max_object_len: config.max_object_len,
    }
}

fn settings(params: &Params) -> Result<ZsmallocParams, CreateError> {
    let mut settings = ZsmallocParams {
        step: ClassConfig::DEFAULT_STEP,
        chain: ClassConfig::DEFAULT_CHAIN,
        compact: true,
    };
    for (name, value) in params.iter() {
        let bad = |expected: &str| CreateError::BadValue {
            name: name.into(),
            value: value.into(),
            expected: expected.into(),
        };
        match name {
            "step" => settings.step = value.parse().map_err(|_| bad(EXPECTED_STEP))?,
            "chain" => settings.chain = value.parse().map_err(|_| bad(EXPECTED_CHAIN))?,
            COMPACT => {
                settings.compact = match value {
                    "auto" => true,
                    "off" => false,
                    _ => return Err(bad(EXPECTED_COMPACT)),
                }
            }
            _ => return Err(CreateError::UnknownParameter { name: name.into(), known: KNOWN }),
        }
    }
    // Frame size and longest object are not known yet: valid ones stand in for them.
    ClassConfig { step: settings.step, chain: settings.chain, ..ClassConfig::new(4096, 4096) }
        .check()?;
    Ok(settings)
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        text.parse::<zpool_core::spec::Component>().unwrap().params
    }

    #[test]
    fn canonical_parameters_omit_defaults() {
        let canonical = |text| ZsmallocDriver.canonical(&params(text)).map(|p| p.to_string());
        assert_eq!(canonical("zsmalloc(chain=64,step=16,compact=auto)").unwrap(), "");
        assert_eq!(
            canonical("zsmalloc(step=8, chain=4, compact=off)").unwrap(),
            "chain=4,compact=off,step=8"
        );
    }

    /// An error names the parameter that is wrong, or the parameters that exist.
    #[test]
    fn bad_parameters_are_named() {
        for (text, name) in [
            ("z(step=12)", "step"),
            ("z(step=4)", "step"),
            ("z(chain=0)", "chain"),
            ("z(chain=65)", "chain"),
            ("z(chain=x)", "chain"),
            ("z(compact=maybe)", "compact"),
        ] {
            match ZsmallocDriver.canonical(&params(text)) {
                Err(CreateError::BadValue { name: bad, .. }) => assert_eq!(bad, name),
                other => panic!("{text}: {other:?}"),
            }
        }
        let unknown = ZsmallocDriver.canonical(&params("z(steps=8)")).unwrap_err();
        assert!(unknown.to_string().contains("chain=1..64"), "{unknown}");
    }
}
