//! A host node on a real pseudo-terminal, read by a scripted agent.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::termios::{QueueSelector, tcflush};
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use trunnion_common::codec::{Decoder, LINE_FRAME_MAX, stuff};
use trunnion_common::frame::{
    Class, Describe, FRAME_MAX, Header, Payload, Poll, TimeReply, TimeRequest, encode,
};
use trunnion_common::id::{BootId, LineAddress, MasterId, NodeId};
use trunnion_common::sequence::SequenceSet;
use trunnion_common::time::NodeTicks;
use trunnion_common::version;

const NODE: &str = "00000000000000ab";
const RATE_HZ: u64 = 48_000;
/// Far more than anything here takes: a bound for a test that would hang.
const PATIENCE: Duration = Duration::from_secs(30);

struct HostNode {
    child: Child,
    output: mpsc::Receiver<String>,
}

impl HostNode {
    async fn start(directory: &Path, samples: &[f32], more: &[&str]) -> Self {
        let file = directory.join("record.f32");
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        std::fs::write(&file, bytes).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_trunnion-host-node"))
            .args(["--node", NODE, "--rate", &RATE_HZ.to_string(), "--temperature"])
            .arg("--link")
            .arg(directory.join("port"))
            .arg("--file")
            .arg(file)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, output) = mpsc::channel(16);
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .try_for_each(|line| sender.blocking_send(line))
        });
        let mut node = Self { child, output };
        node.expect("started").await;
        node
    }

    /// The next line of its output, which must be of this kind.
    async fn expect(&mut self, event: &str) -> Value {
        let line = timeout(PATIENCE, self.output.recv()).await.unwrap();
        let report: Value = serde_json::from_str(&line.expect("the node is running")).unwrap();
        assert_eq!(report["event"], event, "{report}");
        report
    }

    async fn stop(mut self) -> Value {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let report = self.expect("stopped").await;
        assert!(self.child.wait().unwrap().success());
        report
    }
}

impl Drop for HostNode {
    /// A test that failed leaves no process behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The agent's side of the terminal.
struct Port(AsyncFd<OwnedFd>);

impl Port {
    fn open(link: &Path) -> Self {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(link, flags, Mode::empty()).unwrap();
        // As a serial driver does: what arrived before it came is thrown away.
        tcflush(&terminal, QueueSelector::IFlush).unwrap();
        #[allow(
            deprecated,
            reason = "an OwnedFd keeps its descriptor, which is all that the unsafe successor demands"
        )]
        Self(AsyncFd::new(terminal).unwrap())
    }

    async fn read(&self, buffer: &mut [u8]) -> usize {
        loop {
            match rustix::io::read(self.0.get_ref(), &mut *buffer) {
                Ok(length) => return length,
                Err(rustix::io::Errno::AGAIN) => self.0.readable().await.unwrap().clear_ready(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// An agent whose memory is as good as a disk: what has arrived is acknowledged at the next poll.
#[derive(Default)]
struct Agent {
    boot: Option<BootId>,
    received: [SequenceSet; 2],
    table: Option<Describe>,
    samples: BTreeMap<u64, (NodeTicks, i16)>,
    readings: BTreeMap<u64, f32>,
    replies: Vec<TimeReply>,
}

impl Agent {
    fn handle(&mut self, header: &Header, payload: Payload<'_>) {
        assert_eq!(header.node.to_string(), NODE);
        assert_eq!(*self.boot.get_or_insert(header.boot), header.boot);
        let _ = self.received[header.class.index()].insert(header.sequence);
        match payload {
            Payload::Describe(table) => self.table = Some(table),
            Payload::Waveform(waveform) => {
                assert_eq!(header.class, Class::Waveform);
                for (place, sample) in waveform.samples().unwrap().enumerate() {
                    let ticks = header.ticks.plus_micros(place as u64 * 1_000_000 / RATE_HZ);
                    self.samples
                        .insert(waveform.first_sample + place as u64, (ticks, sample));
                }
            }
            Payload::Scalar(scalar) => {
                let readings = scalar.readings.iter().map(|reading| reading.unwrap());
                self.readings.extend((scalar.first_sample..).zip(readings));
            }
            Payload::TimeReply(reply) => self.replies.push(reply),
            Payload::Status(status) => {
                for (class, bound) in [header.sequence, status.next[1]].into_iter().enumerate() {
                    for number in self.received[class].upto()..bound {
                        let mut held = status.held[class].iter();
                        if !held.any(|range| range.first() <= number && number < range.end()) {
                            let _ = self.received[class].insert(number);
                        }
                    }
                }
            }
            Payload::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// What to say to the node every 20 ms.
    fn orders(&self, round: u32) -> Vec<u8> {
        let Some(boot) = self.boot else {
            return line(BootId::from_u64(0), LineAddress::BROADCAST, &Payload::Discover);
        };
        let poll = Payload::Poll(Poll {
            address: LineAddress(1),
            master: MasterId(7),
            upto: [self.received[0].upto(), self.received[1].upto()],
            credit: 64 * 1_024,
        });
        let mut bytes = line(boot, LineAddress(1), &poll);
        if round.is_multiple_of(50) {
            let request = Payload::TimeRequest(TimeRequest { request: round });
            bytes.extend(line(boot, LineAddress(1), &request));
        }
        bytes
    }

    /// Serves the port until `done` resolves.
    async fn serve<T>(&mut self, port: &Port, done: impl Future<Output = T>) -> T {
        let mut done = std::pin::pin!(done);
        let mut polls = tokio::time::interval(Duration::from_millis(20));
        let (mut buffer, mut frame) = ([0; 4_096], [0; LINE_FRAME_MAX]);
        let mut decoder = Decoder::new(&mut frame);
        let mut round = 0;
        loop {
            tokio::select! {
                result = &mut done => return result,
                _ = polls.tick() => {
                    rustix::io::write(port.0.get_ref(), &self.orders(round)).unwrap();
                    round += 1;
                }
                length = port.read(&mut buffer) => {
                    let mut rest = &buffer[..length];
                    while !rest.is_empty() {
                        let fed = decoder.feed(rest);
                        rest = &rest[fed.taken..];
                        // The first piece after opening may be the rest of a frame.
                        if let Some(Ok(frame)) = fed.frame {
                            self.handle(frame.header(), frame.payload().unwrap());
                        }
                    }
                }
            }
        }
    }
}

fn line(boot: BootId, address: LineAddress, payload: &Payload<'_>) -> Vec<u8> {
    let header = Header {
        version: version::FRAME,
        address,
        node: NODE.parse::<NodeId>().unwrap(),
        boot,
        class: Class::Essential,
        sequence: 0,
        ticks: NodeTicks(0),
    };
    let (mut frame, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
    let frame = encode(&header, payload, &mut frame).unwrap();
    stuff(frame, &mut line).unwrap().to_vec()
}

/// A recording whose samples all differ from their neighbours, exact in sixteen bits.
fn recording(seconds: u64) -> (Vec<f32>, Vec<i16>) {
    let bits: Vec<i16> = (0..seconds * RATE_HZ)
        .map(|index| (index * 7_919) as i16)
        .collect();
    let values = bits
        .iter()
        .map(|bits| f32::from(*bits) * 16.0 / 32_768.0)
        .collect();
    (values, bits)
}

#[tokio::test]
async fn samples_arrive_bit_exactly_and_a_reader_that_goes_away_costs_none() {
    let directory = tempfile::tempdir().unwrap();
    let (values, bits) = recording(4);
    let mut node = HostNode::start(directory.path(), &values, &[]).await;
    let link = directory.path().join("port");
    let mut agent = Agent::default();

    let port = Port::open(&link);
    agent
        .serve(&port, tokio::time::sleep(Duration::from_secs(1)))
        .await;
    assert!(agent.samples.len() > 10_000, "{}", agent.samples.len());
    drop(port);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let port = Port::open(&link);
    let drained = agent
        .serve(&port, timeout(PATIENCE, node.expect("drained")))
        .await
        .unwrap();
    assert_eq!(drained["produced"], bits.len());
    assert_eq!(drained["acknowledged"], bits.len());
    assert_eq!(drained["dropped"], 0);
    assert_eq!(drained["clipped"], 0);

    assert!(agent.samples.keys().copied().eq(0..bits.len() as u64));
    assert!(
        agent
            .samples
            .values()
            .map(|(_, sample)| *sample)
            .eq(bits.iter().copied())
    );
    let start = agent.samples[&0].0.0;
    for (index, (ticks, _)) in &agent.samples {
        let due = start + index * 1_000_000 / RATE_HZ;
        assert!(
            ticks.0.abs_diff(due) <= 2,
            "sample {index} at {ticks:?}, due at {due}"
        );
    }
    let table = agent.table.as_ref().unwrap();
    assert_eq!(table.channels[0].rate_mhz, RATE_HZ as u32 * 1_000);
    assert_eq!(table.channels[0].scale, 16.0 / 32_768.0);
    assert!(agent.readings.len() >= 3 && agent.readings.values().all(|degrees| *degrees < 23.0));
    assert!(!agent.replies.is_empty());
    assert!(agent.replies.iter().all(|reply| reply.received <= reply.sent));

    let stopped = node.stop().await;
    assert_eq!(stopped["channels"][0]["acknowledged"], bits.len());
    assert_eq!(stopped["channels"][0]["held"], 0);
    assert!(
        std::fs::symlink_metadata(&link).is_err(),
        "the link goes with the node"
    );
}

#[tokio::test]
async fn sampling_goes_on_unread_and_a_small_outbox_keeps_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let (values, bits) = recording(2);
    let begun = Instant::now();
    let mut node = HostNode::start(directory.path(), &values, &["--outbox-bytes", "100000"]).await;
    // Nobody reads until the recording is over.
    tokio::time::sleep_until(begun + Duration::from_secs(3)).await;
    let mut agent = Agent::default();
    let port = Port::open(&directory.path().join("port"));
    let drained = agent
        .serve(&port, timeout(PATIENCE, node.expect("drained")))
        .await
        .unwrap();
    let count = |field: &str| drained[field].as_u64().unwrap();
    assert_eq!(count("produced"), bits.len() as u64);
    assert_eq!(count("acknowledged") + count("dropped"), count("produced"));
    assert!(count("acknowledged") * 2 > 70_000, "{drained}");
    assert!(
        agent
            .samples
            .keys()
            .copied()
            .eq(count("dropped")..count("produced"))
    );
    for (index, (_, sample)) in &agent.samples {
        assert_eq!(*sample, bits[*index as usize]);
    }
    let stopped = node.stop().await;
    assert_eq!(stopped["channels"][0]["dropped"]["outbox_full"], count("dropped"));
}
