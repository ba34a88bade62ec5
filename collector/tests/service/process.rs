//! A plant in a directory of its own, and the collector's binary run on it.

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Long enough for a loaded machine, and only ever waited for in full by a failing test.
pub(crate) const SOON: Duration = Duration::from_secs(30);

#[allow(clippy::disallowed_methods, reason = "bounds the wait for a real process")]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// What an operator's log holds by default.
const LOG: &str = "info,rumqttd=warn";

pub(crate) struct Plant {
    dir: tempfile::TempDir,
}

/// What a process that ended by itself left behind.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

impl Plant {
    pub(crate) fn new(fleet: &str) -> Self {
        let plant = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let dir = plant.path("");
        plant.command(&[
            "init",
            "--dir",
            dir.to_str().unwrap(),
            "--site",
            "bremen",
            "--host",
            "127.0.0.1",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ]);
        plant.write_fleet(fleet);
        plant
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("plant").join(name)
    }

    pub(crate) fn write_fleet(&self, text: &str) {
        fs::write(self.path("fleet.toml"), text).unwrap();
    }

    /// The bundle of a new gateway.
    pub(crate) fn enrol(&self, gateway: &str, endpoint: SocketAddr) -> String {
        self.command(&[
            "gateway",
            "add",
            gateway,
            "--config",
            self.config().to_str().unwrap(),
            "--endpoint",
            &endpoint.to_string(),
        ])
    }

    /// The bundle of a new gateway, written where nobody else may read it.
    pub(crate) fn enrol_to(&self, gateway: &str, endpoint: SocketAddr, out: &Path) -> String {
        self.command(&[
            "gateway",
            "add",
            gateway,
            "--config",
            self.config().to_str().unwrap(),
            "--endpoint",
            &endpoint.to_string(),
            "--out",
            out.to_str().unwrap(),
        ])
    }

    pub(crate) fn revoke(&self, gateway: &str) {
        self.command(&[
            "gateway",
            "revoke",
            gateway,
            "--config",
            self.config().to_str().unwrap(),
        ]);
    }

    /// Starts the collector and waits until it listens.
    pub(crate) fn start(&self) -> Collector {
        self.start_with_log(LOG)
    }

    /// As [`Self::start`], with that much in its log.
    pub(crate) fn start_with_log(&self, filter: &str) -> Collector {
        let mut child = self.spawn(filter);
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let ready: Value = serde_json::from_str(&first)
            .unwrap_or_else(|_| panic!("no ready line; the log says {}", log.lock().unwrap()));
        assert_eq!(ready["event"], "ready");
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        Collector {
            door: address("door"),
            http: address("http"),
            child,
            log,
        }
    }

    /// Runs a collector that cannot stay.
    pub(crate) fn run_to_its_end(&self) -> Ended {
        let output = self.spawn(LOG).wait_with_output().unwrap();
        Ended {
            code: output.status.code(),
            log: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn spawn(&self, filter: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_trunnion-collector"))
            .args(["run", "--config"])
            .arg(self.config())
            .env("RUST_LOG", filter)
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("collector.toml")
    }

    /// What `dead-letter` prints.
    pub(crate) fn dead_letter(&self, arguments: &[&str]) -> String {
        let config = self.config();
        let place = ["--config", config.to_str().unwrap()];
        self.command(&[&["dead-letter"], arguments, &place].concat())
    }

    /// What a command that has to succeed says on its standard output.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_trunnion-collector"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A running collector; dropped, it is killed.
pub(crate) struct Collector {
    pub(crate) door: SocketAddr,
    http: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Collector {
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self, signal: rustix::process::Signal) -> ExitStatus {
        self.signal(signal);
        self.end()
    }

    /// Waits until it has ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end of the process", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// As a power cut does it, as far as the process is concerned.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn status(&self, path: &str) -> u16 {
        self.get(path).0
    }

    pub(crate) fn text(&self, path: &str) -> String {
        self.get(path).1
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // HTTP/1.0: the answer ends with the connection, in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Gone already after a stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- collector ---\n{}", self.log());
        }
    }
}
