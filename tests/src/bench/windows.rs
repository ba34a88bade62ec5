//! Windows of readings on their own: the work that stream processors are compared by, and their results.
//!
//! 10 million events of 1,000 keys, interleaved and up to 200 ms out of order, into tumbling windows of
//! 1 s: count, mean, population deviation, minimum and maximum, as events stream by under a watermark of
//! 500 ms. They are read from a file, and every row is written to another, all within the time measured.
//! The peers do the same work in the same run (`../shared/peers`, or the folder that `TRUNNION_PEERS` names):
//! DuckDB with the Python that `TRUNNION_PYTHON` names (numpy, pyarrow, duckdb), which also checks each of
//! our rows against its own; Flink with the one that `TRUNNION_FLINK_PYTHON` names.

use super::engine::Scale;
use super::figure::Figure;
use super::scenario::{Progress, Scenario};
use super::usage::Usage;
use crate::sim_machine::Chance;
use crate::workspace::root;
use anyhow::{Context, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use trunnion_collector::window::shape::{Kind, Shape};
use trunnion_collector::window::source_mark::SourceMark;
use trunnion_collector::window::stream::{Emit, Emitted, Lane, Rules, Stream};
use trunnion_common::time::EventTime;

/// Windows of readings, beside the peers.
pub const WINDOWS: Scenario<Scale> = Scenario {
    name: "windows",
    figures: &FIGURES,
    measure,
};

const FIGURES: [Figure; 8] = [
    Figure::at_least("windows_events_per_s", 10e6, "1/s"),
    Figure::at_most("windows_rss_mib", 300.0, "MiB"),
    Figure::at_most("window_state_bytes", 256.0, "B"),
    Figure::at_most("window_state_bytes_quantiles", 1_024.0, "B"),
    Figure::at_most("windows_difference_max", 1e-9, ""),
    Figure::of_peer("duckdb_events_per_s_1_thread", "1/s"),
    Figure::of_peer("duckdb_events_per_s_2_threads", "1/s"),
    Figure::of_peer("flink_events_per_s", "1/s"),
];

const KEYS: u64 = 1_000;

/// Events of all keys in a second of event time.
const RATE_HZ: u64 = 100_000;

const MS: i64 = 1_000_000;

/// When the first event was taken, milliseconds UTC.
const START_MS: i64 = 1_700_000_000_000;

/// How far events are out of order, and how far they are expected to be, milliseconds.
const DISORDER_MS: u64 = 200;
const BOUND_NS: i64 = 500 * MS;

const SIZE_NS: i64 = 1_000 * MS;

/// Bytes of an event: key (u32), milliseconds UTC (i64) and value (f64), little-endian.
const EVENT_BYTES: usize = 20;

/// Events after which it is asked what has become due: 10 ms of event time.
const BATCH: usize = 1_000;

/// How often it is measured: the fastest counts, since everything else on the machine only adds.
const RUNS: usize = 3;

/// Compares our rows with DuckDB's; prints how many there are and the largest relative difference.
const COMPARE: &str = include_str!("windows.py");

fn measure(dir: &Path, scale: &Scale, progress: Progress<'_>) -> Result<Vec<Figure>> {
    std::fs::create_dir_all(dir)?;
    let [
        speed,
        rss,
        state,
        quantiles,
        difference,
        duckdb_1,
        duckdb_2,
        flink,
    ] = FIGURES;
    generate(&dir.join("ev.raw"), scale.window_events)?;
    reset_peak()?;
    let mut best: Option<Run> = None;
    for _ in 0..RUNS {
        let run = windows(&dir.join("ev.raw"), &dir.join("rows.raw"))?;
        ensure!(
            run.events == scale.window_events && run.late == 0,
            "{} events of {} were placed, and {} were too late",
            run.events,
            scale.window_events,
            run.late
        );
        if best.as_ref().is_none_or(|best| run.seconds < best.seconds) {
            best = Some(run);
        }
    }
    let run = best.context("nothing was measured")?;
    let rss_mib = Usage::of(std::process::id())?.peak_rss_mib;
    let mut figures = vec![
        speed.measured(run.events as f64 / run.seconds),
        rss.measured(rss_mib),
        state.measured(run.window_bytes),
        quantiles.measured(quantile_bytes()),
    ];
    match reference(dir, run.rows) {
        Ok((worst, threads)) => {
            figures.push(difference.measured(worst));
            let peers = [duckdb_1, duckdb_2].into_iter().zip(threads);
            figures.extend(peers.map(|(figure, value)| figure.measured(value)));
        }
        Err(error) => {
            progress(&format!("no DuckDB: {error:#}"));
            let all = [difference, duckdb_1, duckdb_2];
            figures.extend(all.map(|figure| figure.missing(format!("{error:#}"))));
        }
    }
    figures.push(match flink_speed(dir) {
        Ok(speed) => flink.measured(speed),
        Err(error) => flink.missing(format!("{error:#}")),
    });
    Ok(figures)
}

/// What one run took.
#[derive(Default)]
struct Run {
    seconds: f64,
    events: u64,
    late: u64,
    rows: u64,
    /// Of state for each window, when most of them were open.
    window_bytes: f64,
}

const fn rules(shape: Shape, quantiles: bool) -> Rules {
    Rules {
        shape,
        lateness_ns: 0,
        emit: Emit::Close,
        quantiles,
    }
}

fn seconds_now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn windows(events: &Path, rows: &Path) -> Result<Run> {
    let shape = Shape::new(Kind::Tumbling { size_ns: SIZE_NS }, 0)?;
    let began = seconds_now();
    let mut file = File::open(events)?;
    let mut rows = BufWriter::new(File::create(rows)?);
    let mut stream: Stream<u32> = Stream::new(rules(shape, false));
    let mut source = SourceMark::new(BOUND_NS, i64::MAX, EventTime(0));
    let mut room = vec![0; BATCH * EVENT_BYTES];
    let mut run = Run::default();
    let (mut batches, mut most) = (0, 0);
    loop {
        let batch = read_batch(&mut file, &mut room)?;
        let watermark = source.watermark();
        for event in batch.chunks_exact(EVENT_BYTES) {
            let (key, time, value) = decode(event);
            source.observe(time, EventTime(0));
            let placed = stream.place(&key, Lane::Live, &watermark, [(time, value)]);
            run.events += placed.on_time;
            run.late += placed.late;
        }
        let is_end = batch.is_empty();
        let watermark = if is_end {
            EventTime(i64::MAX)
        } else {
            source.watermark()
        };
        batches += 1;
        if batches % 50 == 0 && stream.windows() > most {
            most = stream.windows();
            run.window_bytes = stream.state_bytes() as f64 / most as f64;
        }
        for told in stream.advance_all(watermark) {
            write_row(&mut rows, &told)?;
            run.rows += 1;
        }
        if is_end {
            break;
        }
    }
    rows.flush()?;
    run.seconds = seconds_now() - began;
    Ok(run)
}

/// Full batches until the last one; then an empty one.
fn read_batch<'a>(file: &mut File, room: &'a mut [u8]) -> Result<&'a [u8]> {
    let mut filled = 0;
    while filled < room.len() {
        match file.read(&mut room[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(&room[..filled])
}

fn decode(event: &[u8]) -> (u32, EventTime, f64) {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&event[at..at + 8]);
        word
    };
    let mut key = [0; 4];
    key.copy_from_slice(&event[..4]);
    let time = EventTime(i64::from_le_bytes(word(4)) * MS);
    (u32::from_le_bytes(key), time, f64::from_le_bytes(word(12)))
}

/// A row as `windows.py` reads it: 52 bytes, little-endian.
fn write_row(rows: &mut impl Write, told: &Emitted<u32>) -> Result<()> {
    let values = told.new.context("a tumbling window never vanishes")?;
    rows.write_all(&told.key.to_le_bytes())?;
    rows.write_all(&(told.start.0 / MS).to_le_bytes())?;
    rows.write_all(&values.count.to_le_bytes())?;
    for value in [values.mean, values.deviation(), values.minimum, values.maximum] {
        rows.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

/// The events of the peers' `gen.py`, with another generator's dice.
fn generate(path: &Path, events: u64) -> Result<()> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut chance = Chance::new(7);
    for n in 0..events {
        let late = chance.next() % (DISORDER_MS + 1);
        let time = START_MS + (n * 1_000 / RATE_HZ).saturating_sub(late) as i64;
        let value = (n as f64 * 0.01).sin() + 0.1 * chance.normal();
        file.write_all(&((n % KEYS) as u32).to_le_bytes())?;
        file.write_all(&time.to_le_bytes())?;
        file.write_all(&value.to_le_bytes())?;
    }
    Ok(file.flush()?)
}

/// State of a window that tells quantiles, of values so far apart that its sketch is full.
fn quantile_bytes() -> f64 {
    let Ok(shape) = Shape::new(Kind::Tumbling { size_ns: SIZE_NS }, 0) else {
        unreachable!("a second is a length");
    };
    let mut stream: Stream<u32> = Stream::new(rules(shape, true));
    let never = EventTime(i64::MIN);
    let mut placed = 0;
    for key in 0..KEYS as u32 {
        let readings = (0..2_000).map(|n| (EventTime(n * MS), 1.01f64.powi(n as i32 % 1_000)));
        placed += stream.place(&key, Lane::Live, &never, readings).on_time;
    }
    assert_eq!(placed, KEYS * 2_000, "all of them can be placed");
    stream.state_bytes() as f64 / stream.windows() as f64
}

/// From here on the kernel tells the peak anew (proc(5), `clear_refs`).
fn reset_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("the peak of memory cannot be reset")
}

/// The largest relative difference between our rows and DuckDB's, and its own speed with one thread and with
/// two, events/s.
fn reference(dir: &Path, rows: u64) -> Result<(f64, [f64; 2])> {
    let python = std::env::var_os("TRUNNION_PYTHON").unwrap_or_else(|| "python3".into());
    let script = dir.join("windows.py");
    std::fs::write(&script, COMPARE)?;
    let told = output(Command::new(&python).arg(&script).arg(dir))?;
    let compared = field(&told, "rows=").context("windows.py told no rows")?;
    ensure!(
        compared == rows as f64,
        "DuckDB has {compared} rows, we have {rows}"
    );
    let worst = field(&told, "difference=").context("windows.py told no difference")?;
    let told = output(Command::new(&python).arg(peers().join("duckdb_ref.py")).arg(dir))?;
    let speed = |threads: &str| {
        let line = told.lines().find(|line| line.contains(threads));
        line.and_then(speed_of)
            .with_context(|| format!("no speed in: {told}"))
    };
    Ok((worst, [speed("threads=1")?, speed("threads=2")?]))
}

/// Flink's speed on two cores, events/s, its start not counted out.
fn flink_speed(dir: &Path) -> Result<f64> {
    let python =
        std::env::var_os("TRUNNION_FLINK_PYTHON").context("TRUNNION_FLINK_PYTHON names no Python")?;
    ensure!(
        dir.join("ev.csv").is_file(),
        "the events are not there as CSV: DuckDB's Python writes them"
    );
    let told = output(
        Command::new(python)
            .arg(peers().join("flink_table.py"))
            .arg(dir)
            .arg("2"),
    )?;
    let line = told.lines().find(|line| line.starts_with("flink "));
    line.and_then(speed_of)
        .with_context(|| format!("no speed in: {told}"))
}

fn peers() -> PathBuf {
    let given = std::env::var_os("TRUNNION_PEERS").map(PathBuf::from);
    given.unwrap_or_else(|| root().join("../shared/peers"))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.lines().last().unwrap_or("it failed and said nothing"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number behind a name.
fn field(text: &str, name: &str) -> Option<f64> {
    let word = text.split_whitespace().find_map(|word| word.strip_prefix(name))?;
    word.parse().ok()
}

/// The number before `events/s`.
fn speed_of(line: &str) -> Option<f64> {
    let (before, _) = line.split_once(" events/s")?;
    before.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_event_is_in_its_row_and_the_rows_are_those_of_a_plain_count() {
        let dir = tempfile::tempdir().unwrap();
        let (events, rows) = (dir.path().join("ev.raw"), dir.path().join("rows.raw"));
        generate(&events, 300_000).unwrap();
        let run = windows(&events, &rows).unwrap();
        assert_eq!((run.events, run.late), (300_000, 0));
        let mut counts: BTreeMap<(u32, i64), u64> = BTreeMap::new();
        for event in std::fs::read(&events).unwrap().chunks_exact(EVENT_BYTES) {
            let (key, time, _) = decode(event);
            *counts.entry((key, time.0 / SIZE_NS * 1_000)).or_default() += 1;
        }
        let told: BTreeMap<(u32, i64), u64> = std::fs::read(&rows)
            .unwrap()
            .chunks_exact(52)
            .map(|row| {
                let word = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().unwrap());
                let key = u32::from_le_bytes(row[..4].try_into().unwrap());
                ((key, word(4) as i64), word(12))
            })
            .collect();
        assert_eq!(told, counts);
        assert_eq!(run.rows, counts.len() as u64);
        assert!(run.window_bytes <= 256.0, "{}", run.window_bytes);
    }

    #[test]
    fn a_window_with_a_full_sketch_stays_within_a_kibibyte() {
        let bytes = quantile_bytes();
        assert!((768.0..=1_024.0).contains(&bytes), "{bytes}");
    }

    #[test]
    fn what_the_peers_print_is_read() {
        let line = "duckdb threads=1 0.16 s 61234567 events/s windows=101000";
        assert_eq!(
            (speed_of(line), field(line, "windows=")),
            (Some(61_234_567.0), Some(101_000.0))
        );
    }
}
