//! Where lines go. One thread prints call events and everything else from one bounded queue, on a tick: a stuck pipe or a full disk
//! costs lines, which are counted and said, and never a call.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use std::time::Instant;

use tracing::field::Field;
use tracing::field::Visit;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;
use crate::edge::clock::Clock;
use crate::ops::facts::Fields;
use crate::ops::facts::Value;
use crate::ops::line;
use crate::ops::redact::Redactor;
use crate::report::CallEvent;
use crate::report::Fact;
use crate::report::Level;
use crate::time::Time;

/// Events and lines that wait for the printer; the next one is lost and counted.
pub const REPORT_RING_EVENTS_MAX: usize = 16_384;

/// How often the printer looks: no wake-up per event.
const TICK: Duration = Duration::from_millis(20);

/// Lines of one word in one second before the rest is folded into a count.
const LINES_OF_A_WORD_PER_SECOND_MAX: u32 = 100;

/// Words that are counted at a time.
const FOLDED_WORDS_MAX: usize = 64;

/// What a batch of lines is written at.
const BATCH_BYTES: usize = 64 * 1024;

/// Sees every call event before it is printed, whatever the level: the demo's ladder, tests.
pub type EventSink = Box<dyn FnMut(&CallEvent) + Send>;

/// Where the lines go.
#[derive(Clone, Debug)]
pub enum Destination {
    Stdout,
    File(PathBuf),
    /// Events only reach the sink.
    Nowhere,
}

/// What to print, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    pub format: LogFormat,
    /// `info`, or per target: `info,backchannel::edge=debug`; call events have the target `call`.
    pub level: String,
    pub redactor: Redactor,
    pub destination: Destination,
}

enum Item {
    Event(Box<CallEvent>),
    Line(Box<PlainLine>),
}

/// A line that is not a call's: start, names, tokens, drain.
struct PlainLine {
    at: Time,
    level: Level,
    word: String,
    fields: Fields<'static>,
}

#[derive(Debug, Default)]
struct Shared {
    lost: AtomicU64,
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// The way in for events and lines. Never blocks.
#[derive(Clone)]
pub struct LogHandle {
    queue: SyncSender<Item>,
    shared: Arc<Shared>,
    targets: Targets,
    clock: Clock,
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// Waits for the printer at the end.
#[derive(Debug)]
pub struct LogGuard {
    shared: Arc<Shared>,
    thread: std::thread::JoinHandle<()>,
}

impl LogGuard {
    /// Lets the printer finish what is in the queue, for at most `within`: a stuck pipe must not keep the process.
    pub fn finish(self, within: Duration) {
        self.shared.stop.store(true, Ordering::Release);
        let until = Instant::now() + within;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Starts the printer.
pub fn start(settings: LogSettings, clock: Clock, sink: Option<EventSink>) -> io::Result<(LogHandle, LogGuard)> {
    let targets = targets(&settings.level).map_err(io::Error::other)?;
    let output = Output::open(settings.destination)?;
    let (queue, items) = mpsc::sync_channel(REPORT_RING_EVENTS_MAX);
    let shared = Arc::new(Shared::default());
    let printer = Printer {
        items,
        shared: shared.clone(),
        format: settings.format,
        redactor: settings.redactor,
        targets: targets.clone(),
        clock,
        output,
        sink,
        fold: Fold::default(),
        batch: Vec::with_capacity(BATCH_BYTES),
    };
    let thread = std::thread::Builder::new().name("log".into()).spawn(move || printer.run())?;
    Ok((LogHandle { queue, shared: shared.clone(), targets, clock }, LogGuard { shared, thread }))
}

/// Our own lines at `level`; what libraries say only from WARN on, unless a target names them.
fn targets(level: &str) -> Result<Targets, String> {
    match level.parse::<LevelFilter>() {
        Ok(own) => {
            let others = own.min(LevelFilter::WARN);
            Ok(Targets::new().with_default(others).with_target("backchannel", own).with_target("call", own))
        }
        // The parser takes a misspelt level for a target's name, and would then print nothing at all.
        Err(_) if level.split(',').any(|part| !part.contains('=') && part.parse::<LevelFilter>().is_err()) => {
            Err(format!("log.level {level:?}: expected error, warn, info, debug, or a list as info,backchannel::edge=debug"))
        }
        Err(_) => level.parse::<Targets>().map_err(|e| format!("log.level {level:?}: {e}")),
    }
}

impl LogHandle {
    /// One call event; lost and counted when the printer does not keep up.
    pub fn report(&self, event: Box<CallEvent>) {
        self.push(Item::Event(event));
    }

    fn push(&self, item: Item) {
        if self.queue.try_send(item).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew (SIGHUP after logrotate).
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
    }

    /// Makes this the process's `tracing` subscriber; false when there is one already.
    pub fn install(&self) -> bool {
        let layer = LineLayer { handle: self.clone() }.with_filter(self.targets.clone());
        tracing_subscriber::registry().with(layer).try_init().is_ok()
    }
}

/// `tracing` events as lines of the same format.
struct LineLayer {
    handle: LogHandle,
}

impl<S: tracing::Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut collected = Collected::default();
        event.record(&mut collected);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        // A message that is one word names the event; a sentence of a library is shown under its target.
        let is_word = !collected.message.is_empty() && collected.message.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let (word, mut fields) = if is_word {
            (collected.message, Vec::new())
        } else {
            (event.metadata().target().to_owned(), vec![("msg".into(), Value::Text(collected.message.into()))])
        };
        fields.append(&mut collected.fields);
        let line = PlainLine { at: self.handle.clock.now(), level, word, fields };
        self.handle.push(Item::Line(Box::new(line)));
    }
}

/// What one event says; `tracing` itself lets no event have more than 32 fields.
#[derive(Default)]
struct Collected {
    message: String,
    fields: Fields<'static>,
}

impl Collected {
    fn add(&mut self, field: &Field, value: Value<'static>) {
        self.fields.push((Cow::Borrowed(field.name()), value));
    }
}

impl Visit for Collected {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, Value::Text(text.into()));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add(field, Value::Text(value.to_owned().into()));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Number(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        let value = u64::try_from(value).map_or_else(|_| Value::Text(value.to_string().into()), Value::Number);
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bool(value));
    }
}

/// The thread that prints.
struct Printer {
    items: Receiver<Item>,
    shared: Arc<Shared>,
    format: LogFormat,
    redactor: Redactor,
    targets: Targets,
    clock: Clock,
    output: Output,
    sink: Option<EventSink>,
    fold: Fold,
    batch: Vec<u8>,
}

impl Printer {
    fn run(mut self) {
        loop {
            // Read before draining: what was queued before the stop is still printed.
            let stop = self.shared.stop.load(Ordering::Acquire);
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.output.reopen();
            }
            while let Ok(item) = self.items.try_recv() {
                self.print(item);
                if self.batch.len() >= BATCH_BYTES {
                    self.flush();
                }
            }
            self.say_lost();
            self.say_folded();
            self.flush();
            if stop {
                return;
            }
            std::thread::sleep(TICK);
        }
    }

    fn print(&mut self, item: Item) {
        let line = match item {
            Item::Event(event) => {
                if let Some(sink) = &mut self.sink {
                    sink(&event);
                }
                if !self.targets.would_enable("call", &tracing_level(event.fact.level())) {
                    return;
                }
                // What a stranger's flood can cause. The lines of an admitted call are bounded by `max_cps`, and all printed.
                let from_outside = matches!(event.fact, Fact::Refused { .. } | Fact::Warning { .. });
                if from_outside && !self.fold.admits(event.fact.word(), event.at) {
                    return;
                }
                line::of_event(self.format, &event, &self.redactor)
            }
            Item::Line(plain) => {
                if !self.fold.admits(&plain.word, plain.at) {
                    return;
                }
                line::of_fields(self.format, plain.at, plain.level, &plain.word, &plain.fields)
            }
        };
        self.push_line(&line);
    }

    fn push_line(&mut self, line: &str) {
        self.batch.extend_from_slice(line.as_bytes());
        self.batch.push(b'\n');
    }

    fn say_lost(&mut self) {
        let lost = self.shared.lost.swap(0, Ordering::Relaxed) + self.output.take_lost();
        if lost > 0 {
            let fields = vec![("lines".into(), Value::Number(lost))];
            let line = line::of_fields(self.format, self.clock.now(), Level::Warn, "log.lost", &fields);
            self.push_line(&line);
        }
    }

    fn say_folded(&mut self) {
        let now = self.clock.now();
        for (word, lines) in self.fold.roll(now) {
            let fields = vec![("event".into(), Value::Text(word.into())), ("lines".into(), Value::Number(lines))];
            let line = line::of_fields(self.format, now, Level::Warn, "log.folded", &fields);
            self.push_line(&line);
        }
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.output.write(&self.batch);
            self.batch.clear();
        }
    }
}

fn tracing_level(level: Level) -> tracing::Level {
    match level {
        Level::Debug => tracing::Level::DEBUG,
        Level::Info => tracing::Level::INFO,
        Level::Warn => tracing::Level::WARN,
        Level::Error => tracing::Level::ERROR,
    }
}

/// Flood guard: a scanner may not bury the lines of the calls.
#[derive(Debug, Default)]
struct Fold {
    second: u64,
    words: HashMap<String, u32>,
}

impl Fold {
    fn admits(&mut self, word: &str, at: Time) -> bool {
        if self.second == 0 {
            self.second = at.as_micros() / 1_000_000;
        }
        if let Some(lines) = self.words.get_mut(word) {
            *lines = lines.saturating_add(1);
            return *lines <= LINES_OF_A_WORD_PER_SECOND_MAX;
        }
        if self.words.len() < FOLDED_WORDS_MAX {
            self.words.insert(word.to_owned(), 1);
        }
        true
    }

    /// What was folded in the second that is over, by word.
    fn roll(&mut self, now: Time) -> Vec<(String, u64)> {
        let second = now.as_micros() / 1_000_000;
        if second == self.second {
            return Vec::new();
        }
        self.second = second;
        let over = |(word, lines): (String, u32)| {
            let folded = lines.saturating_sub(LINES_OF_A_WORD_PER_SECOND_MAX);
            (folded > 0).then(|| (word, u64::from(folded)))
        };
        let mut folded: Vec<(String, u64)> = self.words.drain().filter_map(over).collect();
        folded.sort();
        folded
    }
}

/// The open destination.
struct Output {
    file: Option<File>,
    path: Option<PathBuf>,
    lost: u64,
}

impl Output {
    fn open(destination: Destination) -> io::Result<Output> {
        let (file, path) = match destination {
            // Unbuffered: a batch is one write.
            Destination::Stdout => (Some(File::from(io::stdout().as_fd().try_clone_to_owned()?)), None),
            Destination::File(path) => {
                let file = append(&path).map_err(|e| io::Error::new(e.kind(), format!("log.file {}: {e}", path.display())))?;
                (Some(file), Some(path))
            }
            Destination::Nowhere => (None, None),
        };
        Ok(Output { file, path, lost: 0 })
    }

    /// The old file stays when the new one cannot be opened.
    fn reopen(&mut self) {
        if let Some(Ok(file)) = self.path.as_ref().map(append) {
            self.file = Some(file);
        }
    }

    fn write(&mut self, batch: &[u8]) {
        let Some(file) = &mut self.file else { return };
        if file.write_all(batch).is_err() {
            self.lost += batch.iter().filter(|b| **b == b'\n').count() as u64;
        }
    }

    fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CallId;

    fn event(text: &str) -> Box<CallEvent> {
        let fact = Fact::Warning { text: text.into() };
        Box::new(CallEvent { at: Time::from_micros(1), call: CallId::new("C1"), contact: None, fact })
    }

    fn settings(destination: Destination) -> LogSettings {
        LogSettings { format: LogFormat::Logfmt, level: "info".into(), redactor: Redactor::off(), destination }
    }

    #[test]
    fn what_the_ring_cannot_hold_is_counted_and_said() {
        let path = std::env::temp_dir().join(format!("backchannel-log-{}-lost", std::process::id()));
        let (go, wait) = mpsc::channel::<()>();
        // A printer that is stuck on its first event, as on a full pipe.
        let mut first = true;
        let sink: EventSink = Box::new(move |_| {
            if std::mem::take(&mut first) {
                let _ = wait.recv();
            }
        });
        let (handle, guard) = start(settings(Destination::File(path.clone())), Clock::start(), Some(sink)).unwrap();
        // The printer holds at most one; the ring holds its bound; the rest is lost.
        for _ in 0..REPORT_RING_EVENTS_MAX + 11 {
            handle.report(event("x"));
        }
        let lost = handle.shared.lost.load(Ordering::Relaxed);
        assert!((10..=11).contains(&lost), "{lost}");
        drop(go);
        guard.finish(Duration::from_secs(10));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(text.contains(&format!("event=log.lost lines={lost}")), "{}", &text[text.len() - 300..]);
    }

    #[test]
    fn the_level_decides_what_is_printed_and_the_sink_sees_all() {
        let t = targets("info").unwrap();
        assert!(t.would_enable("call", &tracing::Level::INFO) && !t.would_enable("call", &tracing::Level::DEBUG));
        assert!(t.would_enable("backchannel::edge", &tracing::Level::INFO) && !t.would_enable("hickory_resolver", &tracing::Level::INFO));
        assert!(targets("debug").unwrap().would_enable("call", &tracing::Level::DEBUG));
        assert!(!targets("error").unwrap().would_enable("hyper", &tracing::Level::WARN));
        assert!(targets("info,call=debug").unwrap().would_enable("call", &tracing::Level::DEBUG));
        assert!(targets("loud").is_err() && targets("info,loud").is_err() && targets("info,call=loud").is_err());
    }

    #[test]
    fn a_flood_of_one_word_is_folded_and_its_count_is_said() {
        let mut fold = Fold::default();
        let at = Time::from_micros(5_000_000);
        let printed = (0..LINES_OF_A_WORD_PER_SECOND_MAX + 7).filter(|_| fold.admits("call.refused", at)).count();
        assert_eq!(printed, LINES_OF_A_WORD_PER_SECOND_MAX as usize);
        assert!(fold.admits("call.warning", at));
        assert_eq!(fold.roll(at), Vec::new());
        assert_eq!(fold.roll(at + Duration::from_secs(1)), vec![("call.refused".to_owned(), 7)]);
        assert!(fold.admits("call.refused", at + Duration::from_secs(1)));
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let path = std::env::temp_dir().join(format!("backchannel-log-{}-reopen", std::process::id()));
        let mut output = Output::open(Destination::File(path.clone())).unwrap();
        output.write(b"one\n");
        std::fs::remove_file(&path).unwrap();
        output.write(b"two\n");
        assert!(!path.exists());
        output.reopen();
        output.write(b"three\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_full_disk_costs_lines_and_says_how_many() {
        // /dev/full answers every write with ENOSPC.
        let mut output = Output::open(Destination::File("/dev/full".into())).unwrap();
        output.write(b"one\ntwo\n");
        assert_eq!(output.take_lost(), 2);
        assert_eq!(output.take_lost(), 0);
    }

    #[test]
    fn one_word_more_than_is_counted_is_printed() {
        let mut fold = Fold::default();
        let at = Time::from_micros(5_000_000);
        for n in 0..=FOLDED_WORDS_MAX {
            assert!(fold.admits(&format!("word-{n}"), at));
        }
        assert_eq!(fold.words.len(), FOLDED_WORDS_MAX);
    }

    #[test]
    fn a_plain_line_prints_like_an_event() {
        let path = std::env::temp_dir().join(format!("backchannel-log-{}-plain", std::process::id()));
        let (handle, guard) = start(settings(Destination::File(path.clone())), Clock::start(), None).unwrap();
        let layer = LineLayer { handle: handle.clone() }.with_filter(handle.targets.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(addr = %"192.0.2.1:5060", calls = 3u64, up = true, "sip.listening");
            tracing::debug!("not.printed");
            tracing::warn!(target: "hickory", "a sentence of a library");
        });
        guard.finish(Duration::from_secs(10));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter_map(|l| l.split_once(' ')).map(|(_, rest)| rest).collect();
        let expected = [
            "level=info event=sip.listening addr=192.0.2.1:5060 calls=3 up=true",
            "level=warn event=hickory msg=\"a sentence of a library\"",
        ];
        assert_eq!(lines, expected);
    }
}
