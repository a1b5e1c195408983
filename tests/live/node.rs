//! `backchannel serve` as a process, and its log.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;

/// How often a file or a process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A start, or the end after the last call.
const START_OR_END_MAX: Duration = Duration::from_secs(15);

pub struct Node {
    child: Child,
    log_file: PathBuf,
    ended: Option<ExitStatus>,
}

impl Node {
    /// Returns when the node says that it is ready.
    pub fn start(config: &Path, dir: &Path) -> Node {
        let binary = std::env::var("BACKCHANNEL_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_backchannel").to_owned());
        let log_file = dir.join("backchannel.log");
        let child = Command::new(&binary)
            .arg("serve")
            .arg("-c")
            .arg(config)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(File::create(&log_file).unwrap())
            .stderr(File::create(dir.join("backchannel.err")).unwrap())
            .spawn()
            .unwrap_or_else(|e| panic!("{binary}: {e}"));
        let mut node = Node { child, log_file, ended: None };
        node.wait_for("ready", START_OR_END_MAX);
        node
    }

    pub fn log(&self) -> Log {
        Log::read(&self.log_file)
    }

    pub fn wait_for(&mut self, event: &str, within: Duration) {
        let until = Instant::now() + within;
        while self.log().of(event).is_empty() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "backchannel ended with {ended:?} before {event}\n{}", self.told());
            assert!(Instant::now() < until, "no {event} within {within:?}\n{}", self.told());
            thread::sleep(LOOK);
        }
    }

    /// SIGTERM: drain.
    pub fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
    }

    pub fn wait_for_end(&mut self) {
        let until = Instant::now() + START_OR_END_MAX;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.ended = Some(status);
                assert!(status.success(), "backchannel ended with {status}\n{}", self.told());
                return;
            }
            assert!(Instant::now() < until, "backchannel does not end\n{}", self.told());
            thread::sleep(LOOK);
        }
    }

    /// What it wrote, for the person who reads a failed test.
    fn told(&self) -> String {
        let errors = fs::read_to_string(self.log_file.with_extension("err")).unwrap_or_default();
        format!("{errors}{}", fs::read_to_string(&self.log_file).unwrap_or_default())
    }

    /// The story went well: its files are not needed.
    pub fn forget(&self, dir: &Path) {
        let _ = fs::remove_dir_all(dir);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("---- {}\n{}", self.log_file.display(), self.told());
        }
    }
}

/// The log's lines, as JSON.
pub struct Log(Vec<Value>);

impl Log {
    fn read(path: &Path) -> Log {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        Log(whole.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("not a log line: {l}: {e}"))).collect())
    }

    pub fn of(&self, event: &str) -> Vec<&Value> {
        self.0.iter().filter(|l| l["event"] == event).collect()
    }

    /// Every WARN is one that the story is about, and there is no ERROR.
    pub fn has_no_surprise(&self, expected: &[&str]) {
        for line in &self.0 {
            let said = [line["event"].as_str().unwrap_or_default(), line["msg"].as_str().unwrap_or_default()];
            let known = expected.iter().any(|e| said.iter().any(|s| s.starts_with(e)));
            assert!(line["level"] != "error", "an ERROR is a bug: {line}");
            assert!(line["level"] != "warn" || known, "nobody expects this: {line}");
        }
    }
}
