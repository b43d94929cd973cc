//! `TracingObserver`: one tracing event for every event in the life of a pool.
#![cfg(feature = "tracing")]

mod common;

use std::fmt::Debug;
use std::sync::Arc;

use common::*;
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use zpool_core::exec::Manual;
use zpool_manager::TracingObserver;

/// One event: its message, pool and spec.
#[derive(Debug, Default, Clone, PartialEq)]
struct Line {
    message: String,
    pool: String,
    spec: String,
    bytes_held: u64,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "pool" => self.pool = format!("{value:?}"),
            "spec" => self.spec = format!("{value:?}"),
            _ => (),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "bytes_held" {
            self.bytes_held = value;
        }
    }
}

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

struct Collecting;

impl Subscriber for Collecting {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        assert_eq!((event.metadata().target(), *event.metadata().level()), ("zpool", Level::DEBUG));
        let mut line = Line::default();
        event.record(&mut line);
        LINES.lock().push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The tracing observer writes every event with pool, spec and bytes.
#[test]
fn tracing_observer_writes_every_event() {
    tracing::subscriber::set_global_default(Collecting).unwrap();
    let manual = Arc::new(Manual::new());
    let manager = builder(&Script::new())
        .executor(manual.clone())
        .observer(Arc::new(TracingObserver))
        .build(&spec("a+x"))
        .unwrap();
    let name = manager.current().unwrap().name().to_owned();
    let kept = store(&manager, b"twelve bytes");
    manager.switch(&spec("b+x")).unwrap();
    kept.free();
    manual.run_all();
    let lines = LINES.lock();
    let of_first: Vec<_> = lines.iter().filter(|line| line.pool == name).collect();
    let stations: Vec<_> = of_first.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(stations, ["created", "published", "retired", "emptied", "destroyed"]);
    assert!(of_first.iter().all(|line| line.spec == "a+x"));
    assert_eq!(of_first.iter().map(|line| line.bytes_held).collect::<Vec<_>>(), [0, 0, 12, 0, 0]);
}
