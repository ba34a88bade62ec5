//! The line between a gateway and its collector, with everything that happens to lines.
//!
//! A TCP proxy on loopback: it cuts, stalls, swallows, delays, narrows and loses what passes, and never
//! invents, changes or reorders a byte of a connection that goes on: what a line loses is sent again,
//! and all that follows waits for it, as TCP has it.

use crate::sim_machine::Chance;
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// What a line loses at once: the payload of an Ethernet frame.
const SEGMENT: usize = 1_460;

/// Chunks on their way in one direction: what a long line holds. Beyond, the sender waits.
const CHUNKS_MAX: usize = 64;

/// What becomes of the bytes of connections and of new connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Passage {
    /// Everything passes.
    #[default]
    Open,
    /// Nothing passes; connections stay, and what waits passes later.
    Stalled,
    /// New connections are closed at once; those that stand go on.
    Refusing,
    /// What the gateway sends is swallowed, and the collector's end is closed: the gateway goes on
    /// believing in its connection.
    GatewayHalfOpen,
    /// What the collector sends is swallowed: blocks arrive, and their acknowledgements do not.
    Mute,
}

/// How the line is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Conditions {
    /// What passes.
    pub passage: Passage,
    /// Every byte is that much later.
    pub delay: Duration,
    /// Bytes per second in each direction of each connection, if the line is thin.
    pub bytes_per_second: Option<u64>,
    /// Of a hundred segments that many are lost, and a round trip later sent again; below 100.
    pub loss_percent: u8,
}

impl Conditions {
    /// How much later than the others a segment arrives, for all the times that it is lost.
    fn resending(&self, chance: &mut Chance) -> Duration {
        let mut losses = 0;
        while chance.next() % 100 < u64::from(self.loss_percent.min(99)) {
            losses += 1;
        }
        2 * self.delay * losses
    }
}

/// The line as its connections see it.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    now: Conditions,
    /// Connections made before the last change of this number are cut.
    cuts: u64,
}

/// The running proxy. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    line: watch::Sender<Line>,
    target: watch::Sender<Option<u16>>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    lost: AtomicU64,
}

impl Proxy {
    /// Listens on a free port of the loopback interface; connections are closed until it has a target.
    pub fn start() -> Result<Self> {
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for the proxy")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (line, follow) = watch::channel(Line::default());
        let (target, aim) = watch::channel(None);
        let counts: Arc<Counts> = Arc::default();
        let count = Arc::clone(&counts);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(move || {
            runtime.block_on(async {
                if let Ok(listener) = TcpListener::from_std(listener) {
                    accept(&listener, &follow, &aim, &count).await;
                }
            });
        })?;
        Ok(Self {
            port,
            line,
            target,
            counts,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Connects new connections to this port of the loopback interface.
    pub fn aim_at(&self, port: u16) {
        self.target.send_replace(Some(port));
    }

    /// Connections accepted so far, those that were closed at once included.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Segments lost so far, each once however often it was.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// From now on the line is like this; connections stay.
    pub fn set(&self, conditions: Conditions) {
        self.line.send_modify(|line| line.now = conditions);
    }

    /// From now on this passes.
    pub fn set_passage(&self, passage: Passage) {
        self.line.send_modify(|line| line.now.passage = passage);
    }

    /// Cuts every connection, wherever in a message it is.
    pub fn cut(&self) {
        self.line.send_modify(|line| line.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Ends the accepting task, which looks at it.
        let (gone, _) = watch::channel(Line::default());
        drop(std::mem::replace(&mut self.line, gone));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: &TcpListener,
    line: &watch::Receiver<Line>,
    target: &watch::Receiver<Option<u16>>,
    counts: &Arc<Counts>,
) {
    let mut gone = line.clone();
    loop {
        let client = tokio::select! {
            client = listener.accept() => client,
            () = async { while gone.changed().await.is_ok() {} } => return,
        };
        let Ok((client, _)) = client else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let number = counts.accepted.fetch_add(1, Ordering::Relaxed);
        let port = *target.borrow();
        if let Some(port) = port
            && line.borrow().now.passage != Passage::Refusing
        {
            tokio::spawn(carry(client, port, line.clone(), number, Arc::clone(counts)));
        }
    }
}

/// One connection, until either side or the line ends it.
async fn carry(
    client: TcpStream,
    port: u16,
    line: watch::Receiver<Line>,
    connection: u64,
    counts: Arc<Counts>,
) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(server) = TcpStream::connect(address).await else {
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let number = line.borrow().cuts;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = line.clone();
    let half = Half::default();
    let (chance_up, chance_down) = (Chance::new(2 * connection), Chance::new(2 * connection + 1));
    let up = async {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let writing = write_up(to_server, chunks, line.clone(), &half);
        tokio::join!(
            read(from_client, sender, line.clone(), chance_up, &counts),
            writing
        );
        half.gateway_left.notify_one();
    };
    let down = async {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let writing = write_down(to_client, chunks, line.clone(), &half);
        tokio::join!(
            read(from_server, sender, line.clone(), chance_down, &counts),
            writing
        );
    };
    let over = async { cut.wait_for(|line| line.cuts != number).await.map(drop) };
    tokio::select! {
        // One direction may end long before the other: half-closed is a state of its own.
        _ = async { tokio::join!(up, down) } => {}
        _ = over => {}
    }
}

/// What the two directions of a connection know of each other.
#[derive(Default)]
struct Half {
    /// The collector's end is closed, and the gateway has not been told.
    is_open: AtomicBool,
    gateway_left: Notify,
}

/// Bytes and when they are due.
type Chunk = (Instant, Vec<u8>);

async fn read(
    mut from: OwnedReadHalf,
    sender: mpsc::Sender<Chunk>,
    line: watch::Receiver<Line>,
    mut chance: Chance,
    counts: &Counts,
) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let is_lossy = line.borrow().now.loss_percent > 0;
        let room = if is_lossy { SEGMENT } else { CHUNK };
        let count = match from.read(&mut buffer[..room]).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let now = line.borrow().now;
        let resending = now.resending(&mut chance);
        counts
            .lost
            .fetch_add(u64::from(resending > Duration::ZERO), Ordering::Relaxed);
        let due = Instant::now() + now.delay + resending;
        if sender.send((due, buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

/// What passes at the time that a chunk may be written; `None` when the proxy has gone.
async fn admit(due: Instant, bytes: usize, line: &mut watch::Receiver<Line>) -> Option<Conditions> {
    sleep_until(due).await;
    let passable = |line: &Line| line.now.passage != Passage::Stalled;
    let now = line.wait_for(passable).await.ok()?.now;
    if let Some(rate) = now.bytes_per_second {
        sleep(Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)).await;
    }
    Some(now)
}

async fn write_up(
    mut to: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<Chunk>,
    mut line: watch::Receiver<Line>,
    half: &Half,
) {
    while let Some((due, chunk)) = chunks.recv().await {
        let Some(now) = admit(due, chunk.len(), &mut line).await else {
            return;
        };
        if now.passage == Passage::GatewayHalfOpen && !half.is_open.swap(true, Ordering::Relaxed) {
            let _ = to.shutdown().await;
        }
        // What has lost some of its bytes must never get later ones.
        if !half.is_open.load(Ordering::Relaxed) && to.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn write_down(
    mut to: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<Chunk>,
    mut line: watch::Receiver<Line>,
    half: &Half,
) {
    let mut is_mute = false;
    while let Some((due, chunk)) = chunks.recv().await {
        let Some(now) = admit(due, chunk.len(), &mut line).await else {
            return;
        };
        is_mute |= now.passage == Passage::Mute;
        let is_silent = is_mute || half.is_open.load(Ordering::Relaxed);
        if !is_silent && to.write_all(&chunk).await.is_err() {
            return;
        }
    }
    if half.is_open.load(Ordering::Relaxed) {
        half.gateway_left.notified().await;
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};

    const SOON: Duration = Duration::from_secs(20);

    /// Both ends of a connection through a proxy.
    fn connected(proxy: &Proxy) -> (std::net::TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        proxy.aim_at(listener.local_addr().unwrap().port());
        let near = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        let (far, _) = listener.accept().unwrap();
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(SOON)).unwrap();
        }
        (near, far)
    }

    fn check_passes(from: &mut std::net::TcpStream, to: &mut std::net::TcpStream, text: &[u8]) {
        from.write_all(text).unwrap();
        let mut got = vec![0; text.len()];
        to.read_exact(&mut got).unwrap();
        assert_eq!(got, text);
    }

    fn check_nothing_comes(stream: &mut std::net::TcpStream) {
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{error}"
        );
        stream.set_read_timeout(Some(SOON)).unwrap();
    }

    fn check_ended(stream: &mut std::net::TcpStream) {
        match stream.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            Ok(_) => panic!("something came"),
        }
    }

    #[test]
    fn an_open_line_carries_both_ways_and_tells_each_side_of_the_end_of_the_other() {
        let proxy = Proxy::start().unwrap();
        let (mut near, mut far) = connected(&proxy);
        check_passes(&mut near, &mut far, b"up");
        check_passes(&mut far, &mut near, b"down");
        drop(far);
        check_ended(&mut near);
        assert_eq!(proxy.accepted(), 1);
    }

    #[test]
    fn what_waited_in_a_stall_passes_after_it() {
        let proxy = Proxy::start().unwrap();
        let (mut near, mut far) = connected(&proxy);
        proxy.set_passage(Passage::Stalled);
        near.write_all(b"late").unwrap();
        check_nothing_comes(&mut far);
        proxy.set_passage(Passage::Open);
        check_passes(&mut near, &mut far, b"");
        let mut got = [0; 4];
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"late");
    }

    #[test]
    fn a_lossy_line_holds_bytes_up_and_carries_every_one_in_order() {
        let proxy = Proxy::start().unwrap();
        let (mut near, mut far) = connected(&proxy);
        proxy.set(Conditions {
            delay: Duration::from_millis(1),
            loss_percent: 50,
            ..Conditions::default()
        });
        // The read that was under way when the line changed still takes a whole chunk.
        check_passes(&mut near, &mut far, b"begin");
        let sent: Vec<u8> = (0..64 * SEGMENT).map(|at| (at / SEGMENT) as u8).collect();
        check_passes(&mut near, &mut far, &sent);
        assert!(proxy.lost() > 10, "{} segments were lost", proxy.lost());
    }

    #[test]
    fn a_segment_is_late_by_a_round_trip_for_each_time_that_it_is_lost() {
        let conditions = Conditions {
            delay: Duration::from_millis(500),
            loss_percent: 20,
            ..Conditions::default()
        };
        let mut chance = Chance::new(1);
        let late: Vec<Duration> = (0..10_000).map(|_| conditions.resending(&mut chance)).collect();
        let times = |n: u32| {
            late.iter()
                .filter(|late| **late == n * Duration::from_secs(1))
                .count()
        };
        assert!((7_800..8_200).contains(&times(0)), "{} were not lost", times(0));
        assert!((1_500..1_700).contains(&times(1)), "{} were lost once", times(1));
        assert!((250..390).contains(&times(2)), "{} were lost twice", times(2));
    }

    #[test]
    fn a_cut_ends_both_sides_and_a_refusing_line_takes_nobody() {
        let proxy = Proxy::start().unwrap();
        let (mut near, mut far) = connected(&proxy);
        proxy.set_passage(Passage::Refusing);
        check_passes(&mut near, &mut far, b"still");
        proxy.cut();
        check_ended(&mut near);
        check_ended(&mut far);
        let mut refused = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        refused.set_read_timeout(Some(SOON)).unwrap();
        check_ended(&mut refused);
    }

    #[test]
    fn a_half_open_line_is_dead_at_one_end_only_and_stays_so() {
        let proxy = Proxy::start().unwrap();
        let (mut near, mut far) = connected(&proxy);
        proxy.set_passage(Passage::GatewayHalfOpen);
        near.write_all(b"into the void").unwrap();
        check_ended(&mut far);
        drop(far);
        proxy.set_passage(Passage::Open);
        near.write_all(b"still").unwrap();
        check_nothing_comes(&mut near);
        proxy.cut();
        check_ended(&mut near);
    }

    #[test]
    fn a_mute_line_carries_one_way() {
        let proxy = Proxy::start().unwrap();
        let (mut near, mut far) = connected(&proxy);
        proxy.set_passage(Passage::Mute);
        far.write_all(b"never heard").unwrap();
        check_passes(&mut near, &mut far, b"heard");
        check_nothing_comes(&mut near);
    }
}
