//! Whether NTP synchronises the system's clock, asked of those who do it.
//!
//! The kernel's own word (`adjtimex`) needs a system call outside of safe Rust. So the three usual
//! daemons are asked: systemd-timesyncd by the flag file that it touches, chronyd by its monitoring
//! protocol on port 323, and ntpd, ntpsec, ntpd-rs or any other server by NTP itself on port 123. Both ports
//! are privileged and asked on loopback. Where nobody answers, the clock counts as free, which
//! understates it and misleads nobody.
//!
//! A daemon that lost its servers goes on saying that all is well; so its last update must not be older
//! than [`SYNCHRONISED_FOR`], nor lie ahead of the clock that it is said to have set. A daemon that gives
//! out this machine's own clock as a reference is no source.

use serde::Serialize;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What systemd-timesyncd(8) touches each time that it has adjusted the clock.
const TIMESYNCD_FLAG: &str = "/run/systemd/timesync/synchronized";

/// How long an update counts: a daemon asks at least every 2,048 s (`PollIntervalMaxSec` of
/// systemd-timesyncd; chronyd and ntpd ask each 1,024 s), and may fail twice.
pub const SYNCHRONISED_FOR: Duration = Duration::from_secs(3 * 2_048);

/// Whoever listens on loopback answers within this time, or is not asked further.
const PATIENCE: Duration = Duration::from_millis(200);

const CHRONY_PORT: u16 = 323;
const NTP_PORT: u16 = 123;

/// A reference clock 127.127.1.x is the machine's own ("local clock driver" of ntpd; chronyd says the
/// same with `local`).
const OWN_CLOCK: [u8; 3] = [127, 127, 1];

/// From 1900, where NTP begins, to 1970.
const NTP_TO_UNIX_S: u64 = 2_208_988_800;

/// Who synchronises the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// systemd-timesyncd.
    Timesyncd,
    /// chronyd.
    Chrony,
    /// An NTP server on this machine.
    Ntp,
}

/// Asks them all; `None` when nobody says so. Blocks for as long as twice 200 ms.
#[allow(clippy::disallowed_methods, reason = "the shell's clock")]
pub fn ask() -> Option<Source> {
    let touched = std::fs::metadata(TIMESYNCD_FLAG).and_then(|flag| flag.modified());
    if touched.is_ok_and(|touched| is_recent(touched, SystemTime::now())) {
        return Some(Source::Timesyncd);
    }
    let nonce = getrandom::u64().unwrap_or_default();
    if exchange(CHRONY_PORT, &chrony_request(nonce as u32)).is_ok_and(|reply| {
        chrony_updated(&reply, nonce as u32).is_some_and(|at| is_recent(at, SystemTime::now()))
    }) {
        return Some(Source::Chrony);
    }
    exchange(NTP_PORT, &ntp_request(nonce))
        .is_ok_and(|reply| ntp_updated(&reply, nonce).is_some_and(|at| is_recent(at, SystemTime::now())))
        .then_some(Source::Ntp)
}

/// A server lost hours ago leaves its traces behind, and a clock set back since then is not the server's.
fn is_recent(updated: SystemTime, now: SystemTime) -> bool {
    now.duration_since(updated)
        .is_ok_and(|age| age <= SYNCHRONISED_FOR)
}

fn exchange(port: u16, request: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(request)?;
    let mut reply = vec![0; 1_024];
    let length = socket.recv(&mut reply)?;
    reply.truncate(length);
    Ok(reply)
}

/// Length of a reply to "tracking", and of its request, so that nobody is amplified (candm.h of chrony).
const CHRONY_BYTES: usize = 104;

/// "tracking" of chrony's protocol 6 (candm.h): version, kind, 2 reserved, command, attempt, sequence.
fn chrony_request(sequence: u32) -> [u8; CHRONY_BYTES] {
    const REQUEST: [u8; 8] = [6, 1, 0, 0, 0, 33, 0, 0];
    let mut request = [0; CHRONY_BYTES];
    request[..8].copy_from_slice(&REQUEST);
    request[8..12].copy_from_slice(&sequence.to_be_bytes());
    request
}

/// When chronyd last updated the clock, if it is synchronised.
fn chrony_updated(reply: &[u8], sequence: u32) -> Option<SystemTime> {
    let header = reply.get(..28)?;
    let is_ours =
        header[..2] == [6, 2] && header[4..8] == [0, 33, 0, 5] && header[16..20] == sequence.to_be_bytes();
    let is_success = header[8..10] == [0, 0];
    // Reference, its address in 20 bytes, stratum, leap status, time of the last update.
    let tracking = reply.get(28..28 + 40)?;
    let is_synchronised = u16_at(tracking, 26)? <= 2 && tracking[..3] != OWN_CLOCK;
    let seconds = u64::from(u32_at(tracking, 28)?) << 32 | u64::from(u32_at(tracking, 32)?);
    let updated = UNIX_EPOCH.checked_add(Duration::new(seconds, 0))?;
    (is_ours && is_success && is_synchronised).then_some(updated)
}

/// A client's packet of RFC 5905, section 7.3: version 4, mode 3, and a transmit time that is only there
/// to be given back.
fn ntp_request(nonce: u64) -> [u8; 48] {
    let mut request = [0; 48];
    request[0] = 4 << 3 | 3;
    request[40..].copy_from_slice(&nonce.to_be_bytes());
    request
}

/// When the server last updated its clock, if it is synchronised.
fn ntp_updated(reply: &[u8], nonce: u64) -> Option<SystemTime> {
    let reply = reply.get(..48)?;
    let (leap, mode, stratum) = (reply[0] >> 6, reply[0] & 7, reply[1]);
    let is_ours = mode == 4 && reply[24..32] == nonce.to_be_bytes();
    // Leap 3 is the alarm; 16 is unsynchronised, and 0 a refusal.
    let is_synchronised = leap != 3 && (1..=15).contains(&stratum);
    let is_own = reply[12..15] == OWN_CLOCK || &reply[12..16] == b"LOCL";
    // Era 0 ends in 2036: what is before 1970 is of the next one.
    let ntp = u64::from(u32_at(reply, 16)?);
    let seconds = ntp
        .checked_sub(NTP_TO_UNIX_S)
        .unwrap_or(ntp + (1 << 32) - NTP_TO_UNIX_S);
    let updated = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    (is_ours && is_synchronised && !is_own).then_some(updated)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATED_S: u32 = 1_800_000_000;

    fn updated() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::from(UPDATED_S))
    }

    #[test]
    fn an_update_counts_as_long_as_its_server_may_still_answer() {
        let (touched, second) = (UNIX_EPOCH + 2 * SYNCHRONISED_FOR, Duration::from_secs(1));
        for (now, recent) in [
            (touched + second, true),
            (touched + SYNCHRONISED_FOR + second, false),
            (touched - second, false),
        ] {
            assert_eq!(is_recent(touched, now), recent);
        }
    }

    /// As chronyd 4.3 answers a "tracking" of this sequence.
    fn tracking(sequence: u32) -> Vec<u8> {
        let mut reply = vec![6, 2, 0, 0, 0, 33, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        reply.extend(sequence.to_be_bytes());
        reply.extend([0; 8]);
        reply.extend([0xC0, 0x00, 0x02, 0x01]);
        reply.extend([0xC0, 0x00, 0x02, 0x01]);
        reply.extend([0; 12]);
        reply.extend([0, 1, 0, 0]);
        reply.extend([0, 3, 0, 0]);
        reply.extend([0; 4]);
        reply.extend(UPDATED_S.to_be_bytes());
        reply.extend([0; 4 + 9 * 4]);
        assert_eq!(reply.len(), CHRONY_BYTES);
        reply
    }

    #[test]
    fn chronyd_counts_when_it_says_that_it_is_synchronised() {
        assert_eq!(chrony_updated(&tracking(7), 7), Some(updated()));
        let with = |at: usize, bytes: &[u8]| {
            let mut reply = tracking(7);
            reply[at..at + bytes.len()].copy_from_slice(bytes);
            chrony_updated(&reply, 7)
        };
        assert_eq!(with(54, &[0, 3]), None, "leap status: not synchronised");
        assert_eq!(with(28, &[127, 127, 1, 1]), None, "its own clock");
        assert_eq!(with(8, &[0, 6]), None, "not enabled");
        assert_eq!(with(16, &[9]), None, "an answer to somebody else");
        for length in 0..68 {
            assert_eq!(chrony_updated(&tracking(7)[..length], 7), None, "{length}");
        }
    }

    fn served(nonce: u64, seconds: u32) -> Vec<u8> {
        let mut reply = vec![4 << 3 | 4, 2, 6, 0xE9, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1];
        reply.extend(seconds.to_be_bytes());
        reply.extend([0; 4]);
        reply.extend(nonce.to_be_bytes());
        reply.extend([0; 16]);
        reply
    }

    #[test]
    fn an_ntp_server_counts_when_it_says_that_it_is_synchronised() {
        let ntp = (u64::from(UPDATED_S) + NTP_TO_UNIX_S) as u32;
        assert_eq!(ntp_updated(&served(7, ntp), 7), Some(updated()));
        let with = |at: usize, bytes: &[u8]| {
            let mut reply = served(7, ntp);
            reply[at..at + bytes.len()].copy_from_slice(bytes);
            ntp_updated(&reply, 7)
        };
        assert_eq!(with(0, &[3 << 6 | 4 << 3 | 4]), None, "alarm");
        assert_eq!(with(1, &[0]), None, "kiss of death");
        assert_eq!(with(1, &[16]), None, "unsynchronised");
        assert_eq!(with(12, b"LOCL"), None, "its own clock");
        assert_eq!(with(24, &[1]), None, "an answer to somebody else");
        assert_eq!(ntp_updated(&served(7, ntp)[..47], 7), None);
        // 2036 and later.
        let later = UNIX_EPOCH + Duration::from_secs((1 << 32) - NTP_TO_UNIX_S + 5);
        assert_eq!(ntp_updated(&served(7, 5), 7), Some(later));
    }

    #[test]
    fn who_asks_is_answered_on_loopback_and_nobody_is_waited_for_long() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let answering = std::thread::spawn(move || {
            let mut request = [0; 256];
            let (length, from) = server.recv_from(&mut request).unwrap();
            assert_eq!(request[..length], chrony_request(7));
            server.send_to(&tracking(7), from).unwrap();
        });
        let reply = exchange(port, &chrony_request(7)).unwrap();
        assert_eq!(chrony_updated(&reply, 7), Some(updated()));
        answering.join().unwrap();
        // Nobody is there any more.
        assert!(exchange(port, &ntp_request(7)).is_err());
    }
}
