//! The programs, and the files that they read.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use benches::Failure;

/// Python binaries, not wrapper scripts.
const PYTHONS: [&str; 4] =
    ["/usr/bin/python3", "/usr/local/bin/python3", "/usr/bin/python3.11", "/usr/bin/python3.12"];

/// Builds two dictionaries of the same records, and looks some of them up.
const PYTHON_SCRIPT: &str = r#"import hashlib

count = 450_000
by_number = {}
by_name = {}
for at in range(count):
    name = f"customer-{at:07d}"
    record = {"name": name, "city": f"city {at % 977}", "balance": at * 31 % 10_007}
    by_number[at] = record
    by_name[name] = record
digest = hashlib.sha256()
for at in range(0, count, 3):
    record = by_name[f"customer-{at:07d}"]
    digest.update(f"{record['city']}:{record['balance']}".encode())
print(len(by_number), len(by_name), digest.hexdigest())
"#;

/// Lines of each host in the log that `sort` gets.
const LINES_PER_HOST: u64 = 110_000;
const HOSTS: u64 = 8;

/// A program with its arguments and its limit.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Its data, for the rows.
    pub(crate) file: &'static str,
    pub(crate) limit: usize,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// The script, if the program is Python.
    pub(crate) script: Option<PathBuf>,
}

impl Workload {
    /// All programs that this machine has, with their files in `folder`.
    pub(crate) fn all(folder: &Path) -> Result<Vec<Workload>, Failure> {
        let mut all = Vec::new();
        let python = PYTHONS.iter().map(Path::new).find(|python| python.exists());
        match python {
            Some(python) => all.push(Workload::python(python, folder)?),
            None => eprintln!("skipped: there is no Python in /usr"),
        }
        all.push(Workload::sort(folder)?);
        all.push(Workload {
            name: "rust",
            file: "records",
            limit: 88 << 20,
            program: std::env::current_exe()?,
            arguments: vec!["--child".into(), "records".into()],
            script: None,
        });
        Ok(all)
    }

    fn python(python: &Path, folder: &Path) -> Result<Workload, Failure> {
        let script = folder.join("dictionaries.py");
        fs::write(&script, PYTHON_SCRIPT)?;
        Ok(Workload {
            name: "python",
            file: "dictionaries",
            limit: 96 << 20,
            program: python.to_owned(),
            arguments: vec![script.clone().into()],
            script: Some(script),
        })
    }

    /// `sort` with a buffer for all of the file: it merges the logs of several hosts by time.
    fn sort(folder: &Path) -> Result<Workload, Failure> {
        let log = folder.join("log.txt");
        write_log(&log)?;
        Ok(Workload {
            name: "sort",
            file: "log",
            limit: 72 << 20,
            program: "sort".into(),
            arguments: vec!["-S".into(), "300M".into(), log.into()],
            script: None,
        })
    }
}

/// Writes the logs of several hosts one after the other, each in its order.
fn write_log(path: &Path) -> Result<(), Failure> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for host in 0..HOSTS {
        let mut time = 1_700_000_000_000 + host;
        for _ in 0..LINES_PER_HOST {
            time += random() % 20 + 1;
            writeln!(
                out,
                "{time} host-{host} service={} request={:012x} status={} \
                 path=/v1/accounts/{}/orders/{} agent=Mozilla/5.0 (X11; Linux x86_64)",
                ["api", "db", "cache", "queue"][random() as usize % 4],
                random() >> 16,
                [200, 200, 200, 404, 500][random() as usize % 5],
                random() % 100_000,
                random() % 1000,
            )?;
        }
    }
    out.flush()?;
    Ok(())
}
