//! A port on one end of a pseudo-terminal, the test on the other.

use super::*;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::path::PathBuf;
use tokio::sync::mpsc::channel;

/// How long anything may take before it counts as stuck.
const LIMIT: Duration = Duration::from_secs(30);

struct Bench {
    node: AsyncFd<OwnedFd>,
    events: Receiver<(usize, PortEvent)>,
    writes: Sender<Vec<u8>>,
    pace: watch::Sender<Pace>,
}

impl Bench {
    async fn open(pace: Pace) -> Self {
        let node = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&node).unwrap();
        unlockpt(&node).unwrap();
        rustix::fs::fcntl_setfl(&node, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK).unwrap();
        let path = PathBuf::from(ptsname(&node, Vec::new()).unwrap().into_string().unwrap());
        let (events_in, events) = channel(64);
        let (writes, queue) = channel(16);
        let (pace, wanted) = watch::channel(pace);
        let port = Port {
            config: PortConfig {
                path,
                baud: 921_600,
                wiring: Default::default(),
            },
            line: 3,
            clock: Clock::new(),
            metrics: Metrics::default(),
            events: events_in,
            turns: Turns::start().unwrap(),
        };
        tokio::spawn(port.run(queue, wanted));
        let node = watched(&node, Interest::READABLE | Interest::WRITABLE).unwrap();
        let mut bench = Self {
            node,
            events,
            writes,
            pace,
        };
        assert_eq!(bench.next().await, PortEvent::Opened);
        bench
    }

    async fn next(&mut self) -> PortEvent {
        let event = tokio::time::timeout(LIMIT, self.events.recv()).await;
        let (line, event) = event.expect("it comes in time").expect("the port lives");
        assert_eq!(line, 3);
        event
    }

    /// Says so much on the line, while the port's events are taken; what it was told.
    async fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut left = bytes;
        while heard.len() < bytes.len() {
            tokio::select! {
                ready = self.node.writable(), if !left.is_empty() => {
                    let mut ready = ready.unwrap();
                    match rustix::io::write(ready.get_inner(), left) {
                        Ok(length) => left = &left[length..],
                        Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                        Err(error) => panic!("{error}"),
                    }
                }
                event = self.events.recv() => match event.unwrap().1 {
                    PortEvent::Bytes(bytes, _) => heard.extend_from_slice(&bytes),
                    other => panic!("{other:?}"),
                },
                () = tokio::time::sleep(LIMIT) => panic!("{} bytes heard", heard.len()),
            }
        }
        heard
    }

    /// What is written to the line, so many bytes.
    async fn hear(&self, bytes: usize) -> Vec<u8> {
        let mut heard = vec![0; bytes];
        let mut read = 0;
        while read < bytes {
            let ready = tokio::time::timeout(LIMIT, self.node.readable()).await;
            let mut ready = ready.expect("it comes in time").unwrap();
            match rustix::io::read(ready.get_inner(), &mut heard[read..]) {
                Ok(length) => read += length,
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => panic!("{error}"),
            }
        }
        heard
    }
}

/// More than the drivers of a pseudo-terminal keep, and no two stretches alike.
fn much() -> Vec<u8> {
    (0..20_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn everything_on_a_line_is_read_in_order_at_either_pace_and_across_their_changes() {
    let mut bench = Bench::open(Pace::InTurn).await;
    let much = much();
    assert_eq!(bench.say(b"in turn").await, b"in turn");
    assert!(bench.say(&much).await == much);
    bench.pace.send(Pace::AtOnce).unwrap();
    assert_eq!(bench.say(b"at once").await, b"at once");
    assert!(bench.say(&much).await == much);
    bench.pace.send(Pace::InTurn).unwrap();
    assert!(bench.say(&much).await == much);
}

#[tokio::test]
async fn everything_written_reaches_a_node_that_is_slow_to_read() {
    let bench = Bench::open(Pace::AtOnce).await;
    let much = much();
    // In few pieces: more than the line takes at once.
    for piece in much.chunks(20_000) {
        bench.writes.send(piece.to_vec()).await.unwrap();
    }
    assert!(bench.hear(much.len()).await == much);
}

#[tokio::test]
async fn a_line_that_hangs_up_is_told_at_either_pace() {
    for pace in [Pace::InTurn, Pace::AtOnce] {
        let Bench {
            node,
            mut events,
            writes: _writes,
            pace: _pace,
        } = Bench::open(pace).await;
        drop(node);
        let event = tokio::time::timeout(LIMIT, events.recv()).await;
        assert_eq!(event.expect("it is noticed"), Some((3, PortEvent::Closed)));
    }
}
