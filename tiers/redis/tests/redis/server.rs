//! A `redis-server` or `valkey-server` on loopback, which ends with its value.

use std::io::{self, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use zswap_tier_redis::redis::{Client, Cmd, FromRedisValue};

/// How often a start is looked at, 50 ms apart, before the test gives up.
const ATTEMPTS: u32 = 400;

pub(crate) struct Server {
    pub(crate) port: u16,
    process: Child,
    directory: TempDir,
}

impl Server {
    /// Starts a server without persistence. If this machine has none, prints that the test is
    /// skipped and returns `None`.
    pub(crate) fn start(test: &str) -> Option<Server> {
        Server::start_on(test, free_port())
    }

    /// Starts a server on a port of its own.
    pub(crate) fn start_on(test: &str, port: u16) -> Option<Server> {
        let directory = TempDir::new().unwrap();
        let spawned = ["redis-server", "valkey-server"].into_iter().find_map(|program| {
            let mut command = Command::new(program);
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            command.args(["--port", &port.to_string()]).arg("--dir").arg(directory.path());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
        });
        let Some(process) = spawned else {
            // Past the capture of the test harness, so that the skip is seen.
            let line = format!("{test}: skipped, there is no redis-server and no valkey-server\n");
            let _ = io::stderr().write_all(line.as_bytes());
            return None;
        };
        let server = Server { port, process, directory };
        for _ in 0..ATTEMPTS {
            if server.client().get_connection().is_ok() {
                return Some(server);
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the server on port {port} did not start, in {}", server.directory.path().display());
    }

    pub(crate) fn client(&self) -> Client {
        Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap()
    }

    /// Runs a command as an administrator would.
    pub(crate) fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = Cmd::new();
        words.iter().for_each(|word| {
            command.arg(*word);
        });
        command.query(&mut self.client().get_connection().unwrap()).unwrap()
    }

    /// Returns the number of keys.
    pub(crate) fn keys(&self) -> usize {
        self.run(&["DBSIZE"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns a port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
