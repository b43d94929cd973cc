//! Requests on a runtime, for threads that wait.

use std::error::Error;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use zpool_core::backing::BackingError;

/// Runs requests on a runtime, and waits for each on the calling thread. That may be a thread of a
/// runtime too, where `block_on` would panic.
#[derive(Debug)]
pub(crate) struct Requests {
    handle: Handle,
    /// Ours, to be shut down.
    own: Option<Runtime>,
    timeout: Duration,
}

impl Requests {
    pub(crate) fn on(handle: Handle, timeout: Duration) -> Requests {
        Requests { handle, own: None, timeout }
    }

    pub(crate) fn on_own_runtime(timeout: Duration) -> io::Result<Requests> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("zswap-tier").enable_all().build()?;
        Ok(Requests { handle: runtime.handle().clone(), own: Some(runtime), timeout })
    }

    /// Runs `request` and waits for its answer.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, BackingError> {
        let (sender, receiver) = sync_channel(1);
        let task = self.handle.spawn(async move {
            // After a timeout, there is no receiver.
            let _ = sender.send(request.await);
        });
        match receiver.recv_timeout(self.timeout) {
            Ok(answer) => answer.map_err(classify),
            Err(RecvTimeoutError::Timeout) => {
                task.abort();
                Err(BackingError::failed(format!(
                    "the object store has not answered within {:?}: check the network, or raise \
                     `timeout`",
                    self.timeout
                )))
            }
            Err(RecvTimeoutError::Disconnected) => Err(BackingError::failed(
                "a request ended without an answer, because its runtime was shut down or the \
                 object store panicked: keep the runtime as long as the tier",
            )),
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // Other ways to drop a runtime block, which tokio forbids inside another runtime.
        if let Some(runtime) = self.own.take() {
            runtime.shutdown_background();
        }
    }
}

fn classify(error: object_store::Error) -> BackingError {
    match error {
        object_store::Error::NotFound { .. } => BackingError::Gone,
        error if is_full(&error) => BackingError::Full,
        error => BackingError::failed(error),
    }
}

/// Returns whether one of the causes of `error` is a full disk or quota, as in a local store.
fn is_full(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(cause: impl Into<Box<dyn Error + Send + Sync>>) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: cause.into() }
    }

    /// A full disk is recognised, wherever it is in the causes.
    #[test]
    fn errors_are_classified() {
        let full = generic(generic(io::Error::from(ErrorKind::StorageFull)));
        assert!(matches!(classify(full), BackingError::Full));
        let denied = generic(io::Error::from(ErrorKind::PermissionDenied));
        assert!(matches!(classify(denied), BackingError::Failed(_)));
        let missing = object_store::Error::NotFound { path: "a".into(), source: "none".into() };
        assert!(matches!(classify(missing), BackingError::Gone));
    }

    /// A request that does not end, or panics, fails; the next one is answered.
    #[test]
    fn requests_without_answer_fail() {
        let requests = Requests::on_own_runtime(Duration::from_millis(20)).unwrap();
        let late = requests.wait(std::future::pending::<object_store::Result<()>>());
        assert!(late.unwrap_err().to_string().contains("within 20ms"));
        let requests = Requests::on_own_runtime(Duration::from_secs(60)).unwrap();
        let panics = async { panic!("a bug of an object store") };
        let ended = requests.wait::<()>(panics).unwrap_err();
        assert!(ended.to_string().contains("ended without an answer"), "{ended}");
        assert_eq!(requests.wait(async { Ok(7) }).unwrap(), 7);
    }

    /// Requests can be made, and the runtime dropped, on a thread of another runtime.
    #[test]
    fn requests_work_inside_a_runtime() {
        let outer = Builder::new_current_thread().build().unwrap();
        outer.block_on(async {
            let requests = Requests::on_own_runtime(Duration::from_secs(60)).unwrap();
            assert_eq!(requests.wait(async { Ok(7) }).unwrap(), 7);
        });
    }

    /// A runtime that is shut down is an error.
    #[test]
    fn ended_runtime_fails_requests() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let requests = Requests::on(runtime.handle().clone(), Duration::from_secs(60));
        runtime.shutdown_background();
        let error = requests.wait(std::future::pending::<object_store::Result<()>>());
        assert!(error.unwrap_err().to_string().contains("shut down"));
    }
}
