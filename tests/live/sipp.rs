//! SIPp as a process.

use std::fs;
use std::fs::File;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::story::SIP_PORT;

/// SIPp gives up after this; every story is over in half of it.
const STORY_MAX: Duration = Duration::from_secs(30);

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// SIPp's transport of one side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// One socket for all calls, as a trunk has it.
    fn as_option(self) -> &'static str {
        match self {
            Transport::Udp => "u1",
            Transport::Tcp => "t1",
        }
    }

    pub fn as_uri(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }

    fn sockets(self) -> &'static str {
        match self {
            Transport::Udp => "/proc/net/udp",
            Transport::Tcp => "/proc/net/tcp",
        }
    }
}

/// One side of a story.
#[derive(Debug)]
pub struct Sipp {
    pub scenario: PathBuf,
    pub ip: Ipv4Addr,
    pub transport: Transport,
    /// Where to call; the side that is called has none.
    pub remote: Option<SocketAddr>,
    pub calls: u32,
    pub repeats: bool,
}

impl Sipp {
    /// The side that is called is there when this returns.
    pub fn start(&self, dir: &Path, name: &str) -> Run {
        let messages = dir.join(format!("{name}.messages"));
        let out = dir.join(format!("{name}.out"));
        let mut command = Command::new("sipp");
        command.args(self.remote.map(|r| r.to_string()));
        command.arg("-sf").arg(&self.scenario);
        command.args(["-i", &self.ip.to_string(), "-bind_local", "-p", &SIP_PORT.to_string(), "-t", self.transport.as_option()]);
        command.args(["-mi", &self.ip.to_string(), "-m", &self.calls.to_string(), "-r", "20"]);
        command.args(["-timeout", &format!("{}s", STORY_MAX.as_secs()), "-timeout_error", "-recv_timeout", "15000", "-nostdin"]);
        if !self.repeats {
            command.arg("-nr");
        }
        // A machine that is busy with the other stories is no reason to stop.
        command.args(["-watchdog_minor_maxtriggers", "100000", "-watchdog_major_maxtriggers", "100000"]);
        command.arg("-trace_msg").arg("-message_file").arg(&messages);
        command.arg("-trace_err").arg("-error_file").arg(dir.join(format!("{name}.errors")));
        let child = command
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(dir.join(format!("{name}.err"))).unwrap())
            .spawn()
            .unwrap_or_else(|e| panic!("sipp: {e}; it is in the package sip-tester, and `tests/run` installs it"));
        let mut run = Run { child, messages, name: name.to_owned(), dir: dir.to_owned(), ended: false };
        if self.remote.is_none() {
            run.wait_for_socket(self);
        }
        run
    }

    /// As `/proc/net/udp` writes it.
    fn is_bound(&self) -> bool {
        let address = format!(" {:08X}:{:04X} ", u32::from_le_bytes(self.ip.octets()), SIP_PORT);
        fs::read_to_string(self.transport.sockets()).unwrap_or_default().lines().any(|l| l.contains(&address))
    }
}

/// SIPp under way.
pub struct Run {
    child: Child,
    pub messages: PathBuf,
    name: String,
    dir: PathBuf,
    ended: bool,
}

impl Run {
    fn wait_for_socket(&mut self, sipp: &Sipp) {
        let until = Instant::now() + Duration::from_secs(10);
        while !sipp.is_bound() {
            assert!(self.child.try_wait().unwrap().is_none(), "sipp ended at once\n{}", self.told());
            assert!(Instant::now() < until, "sipp does not listen\n{}", self.told());
            thread::sleep(LOOK);
        }
    }

    /// Every call went as the scenario says.
    pub fn finish(mut self) {
        let until = Instant::now() + STORY_MAX + Duration::from_secs(5);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > until => panic!("sipp does not end\n{}", self.told()),
                None => thread::sleep(LOOK),
            }
        };
        self.ended = true;
        assert!(status.success(), "sipp {} ended with {status}\n{}", self.name, self.told());
    }

    /// What it says went wrong, and the messages of that side.
    fn told(&self) -> String {
        let read = |suffix: &str| fs::read_to_string(self.dir.join(format!("{}.{suffix}", self.name))).unwrap_or_default();
        format!("---- {} in {}\n{}{}\n---- messages\n{}", self.name, self.dir.display(), read("err"), read("errors"), read("messages"))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
