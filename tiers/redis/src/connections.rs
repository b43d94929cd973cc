//! Connections to the server, each used by one call at a time.

use std::time::Duration;

use redis::{Client, Cmd, Connection, FromRedisValue, RedisError, RedisResult};
use zpool_core::backing::BackingError;
use zpool_core::internal::sync::Mutex;

/// A list of idle connections, the latest used last.
pub(crate) struct Connections {
    client: Client,
    timeout: Duration,
    max_idle: usize,
    idle: Mutex<Vec<Connection>>,
}

impl Connections {
    pub(crate) fn new(client: Client, timeout: Duration, max_idle: usize) -> Connections {
        Connections { client, timeout, max_idle, idle: Mutex::default() }
    }

    /// Connects, and keeps the connection.
    pub(crate) fn try_connect(&self) -> RedisResult<()> {
        let connection = self.connect()?;
        self.keep(connection);
        Ok(())
    }

    /// Runs a command that may be repeated.
    ///
    /// A server closes connections that were idle for long, or when it restarts. If a kept
    /// connection turns out to be dropped, the command is repeated once on a new one.
    pub(crate) fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, BackingError> {
        let kept = self.idle.lock().pop();
        if let Some(connection) = kept {
            match self.run_on(connection, command) {
                Err(error) if error.is_connection_dropped() => self.close_idle(),
                answered => return answered.map_err(classify),
            }
        }
        let connection = self.connect().map_err(classify)?;
        self.run_on(connection, command).map_err(classify)
    }

    fn run_on<T: FromRedisValue>(
        &self,
        mut connection: Connection,
        command: &Cmd,
    ) -> RedisResult<T> {
        let answer = command.query(&mut connection);
        // After a network error the reply may still arrive, and would be taken for that of the next
        // command. Errors that the server reports have a code.
        let is_usable = match &answer {
            Ok(_) => true,
            Err(error) => error.code().is_some(),
        };
        if is_usable {
            self.keep(connection);
        }
        answer
    }

    fn connect(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(self.timeout)?;
        connection.set_read_timeout(Some(self.timeout))?;
        connection.set_write_timeout(Some(self.timeout))?;
        Ok(connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < self.max_idle {
            idle.push(connection);
            return;
        }
        // Closed after the lock is free.
        drop(idle);
        drop(connection);
    }

    /// Closes the idle connections. They were idle for longer than the one that the server closed.
    fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }
}

fn classify(error: RedisError) -> BackingError {
    match error.code() {
        // "command not allowed when used memory > 'maxmemory'"
        Some("OOM") => BackingError::Full,
        _ => BackingError::failed(error),
    }
}
