//! What a process uses, as `/proc` tells it (Linux, proc(5)).

use anyhow::{Context, Result};
use std::path::Path;

/// `/proc` counts processor time in these, whatever the kernel's own tick is (`USER_HZ`, time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process' use of memory, processor and disk up to now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Usage {
    /// Memory in use, MiB.
    pub rss_mib: f64,
    /// The most it ever was, MiB.
    pub peak_rss_mib: f64,
    /// Processor time, seconds.
    pub cpu_s: f64,
    /// Bytes that it caused to be written to disks.
    pub written_bytes: u64,
}

impl Usage {
    /// Of a running process.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        parse(&read("status")?, &read("stat")?, &read("io")?)
            .with_context(|| format!("/proc/{pid} is not as it is documented"))
    }
}

fn parse(status: &str, stat: &str, io: &str) -> Option<Usage> {
    let field = |text: &str, name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    // The second field is the program's name in brackets, which may hold anything; utime and stime are
    // fields 14 and 15.
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let mib = |kib: u64| kib as f64 / 1_024.0;
    Some(Usage {
        rss_mib: mib(field(status, "VmRSS:")?),
        peak_rss_mib: mib(field(status, "VmHWM:")?),
        cpu_s: (ticks()? + ticks()?) as f64 / TICKS_PER_SECOND,
        written_bytes: field(io, "write_bytes:")?,
    })
}

/// Bytes that a folder takes on its disk, holes not counted.
pub fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    // A file may go while we look: it takes nothing then.
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read_as_documented() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let stat = "1 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        let usage = parse(status, stat, "rchar: 1\nwrite_bytes: 4096\n").unwrap();
        assert_eq!((usage.rss_mib, usage.peak_rss_mib), (1.0, 2.0));
        assert_eq!((usage.cpu_s, usage.written_bytes), (2.0, 4_096));
    }

    #[test]
    fn a_process_can_be_asked() {
        assert!(Usage::of(std::process::id()).unwrap().rss_mib > 0.0);
    }
}
