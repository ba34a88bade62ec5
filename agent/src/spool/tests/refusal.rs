//! A disk that refuses, at every place where it is asked for something: nothing is confirmed that it did not
//! take, and the process goes on, ends with a named error, or waits in sled and confirms nothing. strace
//! makes the system's calls fail.

use super::*;
use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

/// What the victim is told: where its spool is, and how often it is to try.
const STATE: &str = "TRUNNION_SPOOL_REFUSED";
const TRIES: &str = "TRUNNION_SPOOL_TRIES";

/// Commits, over both chains, with a database begun in between.
const COMMITS: u64 = 8;

/// Attempts at each, where the disk refuses once: strace counts the calls of each thread, and sled begins
/// threads as it goes. One that refuses for good takes none of a few.
const ATTEMPTS: &str = "20";
const ATTEMPTS_FOR_GOOD: &str = "2";

/// Call by which the spool asks the disk for something, and what it hears.
const CALLS: [(&str, &str); 10] = [
    ("fdatasync", "EIO"),
    ("fsync", "EIO"),
    ("sync_file_range", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("write", "ENOSPC"),
    ("write", "EIO"),
    ("ftruncate", "EIO"),
    ("mkdir", "ENOSPC"),
    ("rename", "EIO"),
];

/// Without a word for so long, the victim waits in sled for ever: after some refusals sled's `flush` is not
/// woken any more. It confirms nothing then, and that is what is checked of it; an agent ends by
/// [`crate::spool_watch`].
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Ends the process when `progress` is heard no more.
fn watch(progress: &std::sync::mpsc::Receiver<()>) {
    use std::sync::mpsc::RecvTimeoutError;
    loop {
        match progress.recv_timeout(PATIENCE) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                println!("hangs");
                std::process::exit(0);
            }
        }
    }
}

fn written(sequence: u64) -> (Class, Block) {
    if sequence.is_multiple_of(2) {
        (Class::Waveform, block(1, sequence, 20_000))
    } else {
        (Class::Essential, block(ESSENTIAL + 1, sequence, 300))
    }
}

/// Not a test of its own: what the next one runs in processes whose calls fail.
#[test]
fn victim_whose_disk_refuses() {
    let Some(state) = std::env::var_os(STATE) else {
        return;
    };
    let state = Path::new(&state);
    let attempts: usize = std::env::var(TRIES).unwrap().parse().unwrap();
    let (alive, progress) = std::sync::mpsc::channel();
    std::thread::spawn(move || watch(&progress));
    let mut spool = match Spool::open(state, [Epoch(ESSENTIAL + 1), Epoch(1)]) {
        Ok((spool, _)) => spool,
        Err(error) => {
            println!("refused: {error}");
            return;
        }
    };
    for sequence in 0..COMMITS {
        let (class, block) = written(sequence);
        for _ in 0..attempts {
            alive.send(()).unwrap();
            match spool.commit(class, std::slice::from_ref(&block), &[cursor(sequence + 1)]) {
                Ok(()) => {
                    println!("committed {sequence}");
                    break;
                }
                Err(error) => println!("refused: {error}"),
            }
        }
        if sequence == COMMITS / 2
            && let Err(error) = spool.close_waveform()
        {
            println!("refused: {error}");
        }
    }
    drop(spool);
    println!("ended");
}

/// Runs the victim with this call failing as `when` says; how it went, and whether the call was made so
/// often at all.
fn run(state: &Path, call: &str, error: &str, when: &str) -> (Output, bool) {
    let log = state.join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&log);
    if call == "write" {
        // Not what it says to us.
        for index in [
            "waveform/00000001",
            "waveform/00000002",
            "essential/00000001",
            "essential/00000002",
        ] {
            let index = state.join(format!("spool/{index}.index"));
            strace.arg("-P").arg(index);
        }
    }
    let output = strace
        .args([
            format!("-etrace={call}"),
            format!("-einject={call}:error={error}:when={when}"),
        ])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "spool::tests::refusal::victim_whose_disk_refuses",
        ])
        .env(STATE, state)
        .env(
            TRIES,
            if when.ends_with('+') {
                ATTEMPTS_FOR_GOOD
            } else {
                ATTEMPTS
            },
        )
        .env("RUST_BACKTRACE", "0")
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let calls = std::fs::read_to_string(log).unwrap();
    (output, calls.contains("INJECTED"))
}

/// Returns whether the call failed at all.
fn check(call: &str, error: &str, when: &str) -> bool {
    let dir = damage::folder();
    let what = format!("{call} fails with {error} at {when}");
    // What a former start left.
    let former = block(3, 0, 9_000);
    let (mut spool, _) = open(dir.path(), 3);
    spool
        .commit(Class::Waveform, std::slice::from_ref(&former), &[cursor(1)])
        .unwrap();
    drop(spool);
    let (output, has_failed) = run(dir.path(), call, error, when);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{what}: {:?}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let confirmed: BTreeSet<u64> = said
        .lines()
        .filter_map(|line| line.split_once("committed ")?.1.trim().parse().ok())
        .collect();
    if !has_failed {
        assert_eq!(confirmed.len() as u64, COMMITS, "{what}: {said}");
    } else if !when.ends_with('+') && said.contains("committed 0") && !said.contains("hangs") {
        assert_eq!(
            confirmed.len() as u64,
            COMMITS,
            "{what}: it takes them later: {said}"
        );
    }
    let (mut spool, recovered) = open(dir.path(), 2);
    assert_eq!(
        spool.read(former.key),
        Ok(former.bytes),
        "{what}: a former start's\n{said}"
    );
    for sequence in &confirmed {
        let (class, block) = written(*sequence);
        assert_eq!(
            spool.read(block.key).as_ref(),
            Ok(&block.bytes),
            "{what}: block {sequence}\n{said}"
        );
        if class == Class::Waveform {
            let upto = recovered.cursors[0].received[1].upto();
            assert!(
                upto > *sequence,
                "{what}: the cursor of block {sequence} is at {upto}"
            );
        }
    }
    has_failed
}

#[test]
fn nothing_is_confirmed_that_the_disk_refused_at_any_call() {
    let name = "nothing_is_confirmed_that_the_disk_refused_at_any_call";
    let traced = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "true"])
        .status();
    if !traced.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {name} (apt-get install strace, and the right to trace processes)");
        return;
    }
    // Every call of a thread on demand; else the first ones, where most is decided, and fewer and fewer.
    let step = |n: u32| match std::env::var_os("TRUNNION_EVERY_CALL") {
        Some(_) => n + 1,
        None => n + 1 + n / 2,
    };
    let mut tried = 0;
    for (call, error) in CALLS {
        let mut n = 1;
        while check(call, error, &n.to_string()) {
            tried += 1;
            n = step(n);
        }
        assert!(n > 1 || call == "ftruncate", "{call} is never called");
        // A disk that never takes anything any more.
        check(call, error, "3+");
    }
    eprintln!("{tried} calls refused");
}
