//! Ingest against a scripted source and a disk that fails.

use super::*;
use crate::command::Wanted;
use crate::command::signer::SignerError;
use crate::journal::faults::{Call, FaultyDisk};
use crate::journal::{Commit, Options, Reader};
use crate::settings::Settings;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use trunnion_common::ack::{HeldEpoch, Hello};
use trunnion_common::block::{Envelope, Kind as BlockKind, Lane};
use trunnion_common::codec::crc32c;
use trunnion_common::id::{JournalId, MasterId, Name};
use trunnion_common::message::{
    Action, CommandOutcome, CommandResult, GatewaySettings, GatewayStatus, Phase,
};
use trunnion_common::reject::{Reject, RejectReason};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::{Range, Ranges};

const START: EventTime = EventTime(1_800_000_000_000_000_000);
const ID: JournalId = JournalId(7);
const EPOCH: Epoch = Epoch(1);

fn gateway(name: &str) -> GatewayId {
    GatewayId {
        site: Name::new("bremen").unwrap(),
        gateway: Name::new(name).unwrap(),
    }
}

fn message(gateway: &GatewayId, kind: Kind, payload: Vec<u8>) -> Message {
    let gateway = gateway.clone();
    Message {
        topic: Topic { gateway, kind }.to_string(),
        payload: payload.into(),
    }
}

fn block(sequence: u64) -> Message {
    let envelope = Envelope::new(EPOCH, sequence, Lane::Live, BlockKind::Frames);
    message(&gateway("gw-1"), Kind::Data, envelope.encode(&[]).to_vec())
}

fn encoded(content: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = vec![0; MESSAGE_MAX];
    message::encode(content, &mut bytes).unwrap().to_vec()
}

/// What a scripted source hands out: `None` is a quiet spell of one poll.
type Script = Vec<Option<Message>>;

/// Plays a script, records what is published, and stops ingest at the end of the script.
struct Scripted {
    script: VecDeque<Option<Message>>,
    clock: Arc<Mutex<EventTime>>,
    disk: FaultyDisk,
    published: Arc<Mutex<Vec<Published>>>,
    stop: watch::Sender<bool>,
}

struct Published {
    topic: String,
    payload: Vec<u8>,
    /// Whether the last thing asked of the disk before was a sync that succeeded.
    after_sync: bool,
}

impl BlockSource for Scripted {
    fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, SourceClosed> {
        let next = self.script.pop_front();
        if self.script.is_empty() {
            self.stop.send_replace(true);
        }
        let message = next.flatten();
        if message.is_none() {
            let mut now = self.clock.lock().unwrap();
            *now = now.plus_nanos(timeout.as_nanos() as i64);
        }
        Ok(message)
    }

    fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), SourceClosed> {
        let after_sync = self.disk.plan().calls.last() == Some(&(Call::Sync, true));
        self.published.lock().unwrap().push(Published {
            topic: topic.to_owned(),
            payload,
            after_sync,
        });
        Ok(())
    }
}

/// What was left after a script had been played.
struct Played {
    dir: TempDir,
    published: Vec<Published>,
    handle: IngestHandle,
    metrics: Metrics,
    outcome: Result<(), IngestError>,
}

impl Played {
    fn commits(&self) -> Vec<Commit> {
        commits(self.dir.path(), *self.handle.committed.borrow())
    }

    /// Everything journaled but that ingest has started, and where the epochs of a Hello stood.
    fn entries(&self) -> Vec<Entry> {
        let all = self.commits().into_iter().flat_map(|commit| commit.entries);
        let all = all.map(|(_, entry)| entry);
        all.filter(|entry| !matches!(entry, Entry::Started { .. } | Entry::Greeted { .. }))
            .collect()
    }

    fn acks(&self) -> Vec<Ack> {
        let acks = self.published.iter().filter(|sent| sent.topic.ends_with("/ack"));
        acks.map(|sent| message::decode(&sent.payload).unwrap()).collect()
    }
}

fn commits(dir: &Path, upto: Position) -> Vec<Commit> {
    let mut reader = Reader::open(dir, Position::default()).unwrap();
    std::iter::from_fn(|| reader.next_commit(upto).unwrap()).collect()
}

fn play(script: Script) -> Played {
    play_on(FaultyDisk::default(), tempfile::tempdir().unwrap(), script, &[])
}

fn play_on(disk: FaultyDisk, dir: TempDir, script: Script, commands: &[IngestCommand]) -> Played {
    let clock = Arc::new(Mutex::new(START));
    let (stop, shutdown) = watch::channel(false);
    let published = Arc::default();
    let source = Scripted {
        script: script.into(),
        clock: clock.clone(),
        disk: disk.clone(),
        published: Arc::clone(&published),
        stop,
    };
    let (journal, _) =
        Journal::open_on(Box::new(disk), dir.path(), Options::default(), START, || Ok(ID)).unwrap();
    let metrics = Metrics::default();
    let now = move || *clock.lock().unwrap();
    let (mut ingest, handle) = Ingest::new(journal, source, metrics.clone(), now);
    ingest.set_signer(Box::new(Scribe));
    for command in commands {
        handle.commands.send(command.clone()).unwrap();
    }
    let outcome = ingest.run(shutdown);
    let published = std::mem::take(&mut *published.lock().unwrap());
    Played {
        dir,
        published,
        handle,
        metrics,
        outcome,
    }
}

/// Writes commands down without any proof.
#[derive(Debug)]
struct Scribe;

impl Sign for Scribe {
    fn sign(&self, _: &GatewayId, command: &Command) -> Result<Vec<u8>, SignerError> {
        Ok(encoded(command))
    }
}

#[test]
fn a_command_is_sent_after_its_commit_and_its_answer_is_journaled_once() {
    let settings = GatewaySettings {
        heartbeat_interval_ms: Some(2_000),
        ..GatewaySettings::default()
    };
    let wanted = Wanted {
        gateways: BTreeMap::from([(gateway("gw-1"), settings), (gateway("gw-2"), settings)]),
        ..Wanted::default()
    };
    let result = CommandResult {
        number: 1,
        outcome: CommandOutcome::Done,
        highest: 1,
    };
    let answer = message(&gateway("gw-1"), Kind::Result, encoded(&result));
    // A block says that the gateway is there; a look is due once a second.
    let mut script = vec![Some(block(0))];
    script.resize(30, None);
    script.extend([Some(answer.clone()), None, Some(answer)]);
    script.resize(100, None);
    let commands = [IngestCommand::Wanted(Box::new(wanted))];
    let played = play_on(
        FaultyDisk::default(),
        tempfile::tempdir().unwrap(),
        script,
        &commands,
    );
    let sent: Vec<_> = played
        .published
        .iter()
        .filter(|sent| sent.topic.ends_with("/command"))
        .collect();
    let [sent] = &sent[..] else {
        panic!("{} commands were sent", sent.len());
    };
    assert!(sent.after_sync);
    assert_eq!(sent.topic, "trunnion/down/bremen/gw-1/command");
    let command: Command = message::decode(&sent.payload).unwrap();
    assert_eq!((command.number, &command.action), (1, &Action::Gateway(settings)));
    let entries = played.entries();
    let journaled = |wanted: fn(&Entry) -> bool| entries.iter().filter(|entry| wanted(entry)).count();
    assert_eq!(journaled(|entry| matches!(entry, Entry::Command { .. })), 1);
    assert_eq!(journaled(|entry| matches!(entry, Entry::CommandResult { .. })), 1);
    let shown = played.handle.gateways.snapshot();
    assert!(shown[&gateway("gw-1")].commands[0].in_effect);
}

fn is_tick(entry: &Entry) -> bool {
    *entry == Entry::Tick
}

#[test]
fn a_block_is_acknowledged_after_the_sync_of_its_commit() {
    let played = play(vec![Some(block(0)), Some(block(1)), None, Some(block(2)), None]);
    played.outcome.as_ref().unwrap();
    let acks = played.acks();
    assert_eq!(
        acks.iter().map(|ack| ack.received.upto()).collect::<Vec<_>>(),
        [2, 3]
    );
    assert!(played.published.iter().all(|sent| sent.after_sync));
    assert!(
        played
            .published
            .iter()
            .all(|sent| sent.topic == "trunnion/down/bremen/gw-1/ack")
    );
    assert!(
        acks.iter()
            .all(|ack| ack.epoch == EPOCH && ack.journal.name.is(ID))
    );
    assert_eq!(played.commits().len(), 2);
    assert_eq!(played.metrics.blocks_committed.get(), 3);
}

#[test]
fn each_start_journals_the_name_by_which_it_acknowledges_before_it_does() {
    let first = play(vec![None, Some(block(0)), None]);
    // Nothing is new, and so nothing else is journaled.
    let second = play_on(FaultyDisk::default(), first.dir, vec![Some(block(0)), None], &[]);
    let commits = second.commits();
    let names = commits.iter().map(|commit| match commit.entries.last() {
        Some((_, Entry::Started { name, .. })) => Some(*name),
        _ => None,
    });
    let told = [&first.published, &second.published].map(|sent| {
        let ack: Ack = message::decode(&sent[0].payload).unwrap();
        assert!(sent[0].after_sync);
        Some(ack.journal.name.start())
    });
    assert_eq!(names.collect::<Vec<_>>(), told);
}

#[test]
fn a_duplicate_is_acknowledged_again_and_stored_once() {
    let played = play(vec![Some(block(0)), Some(block(0)), None, Some(block(0)), None]);
    assert_eq!(played.acks().len(), 2);
    assert_eq!(played.entries().len(), 1);
    assert_eq!(played.metrics.blocks_duplicated.get(), 2);
}

#[test]
fn a_restart_still_knows_every_block() {
    let first = play(vec![Some(block(0)), Some(block(2)), None]);
    let script = vec![Some(block(2)), Some(block(1)), Some(block(0)), None];
    let second = play_on(FaultyDisk::default(), first.dir, script, &[]);
    let blocks: Vec<_> = second
        .entries()
        .into_iter()
        .filter(|entry| !is_tick(entry))
        .collect();
    assert_eq!(blocks.len(), 3);
    assert_eq!(second.acks().last().unwrap().received.upto(), 3);
    assert_eq!(second.metrics.blocks_duplicated.get(), 2);
}

#[test]
fn a_failed_write_or_sync_acknowledges_nothing_and_the_retry_goes_to_a_new_segment() {
    // Calls 0 and 1 create the segment, 2 and 3 commit block 0, 4 and 5 block 1.
    for at in 2..6 {
        let disk = FaultyDisk::failing(at..at + 1, ErrorKind::Other);
        let script = vec![Some(block(0)), None, Some(block(1)), None];
        let played = play_on(disk, tempfile::tempdir().unwrap(), script, &[]);
        played.outcome.as_ref().unwrap();
        assert!(played.published.iter().all(|sent| sent.after_sync), "call {at}");
        let received = played
            .acks()
            .iter()
            .map(|ack| ack.received.upto())
            .collect::<Vec<_>>();
        assert_eq!(received, [1, 2], "call {at}");
        assert_eq!(played.entries().len(), 2, "call {at}");
        let end = *played.handle.committed.borrow();
        // A segment that had no commit yet is replaced, any other one is left as it is.
        assert_eq!(end.segment, if at < 4 { 1 } else { 2 }, "call {at}");
    }
}

#[test]
fn told_to_stop_on_a_full_disk_it_stops_without_acknowledging() {
    let disk = FaultyDisk::failing(2..usize::MAX, ErrorKind::StorageFull);
    let played = play_on(disk, tempfile::tempdir().unwrap(), vec![Some(block(0))], &[]);
    assert!(matches!(
        played.outcome,
        Err(IngestError::Journal(JournalError::DiskFull { .. }))
    ));
    assert!(played.published.is_empty());
    assert_eq!(played.metrics.blocks_committed.get(), 0);
}

/// Has one message and is gone.
struct Closing(Option<Message>);

impl BlockSource for Closing {
    fn receive(&mut self, _: Duration) -> Result<Option<Message>, SourceClosed> {
        self.0.take().map(Some).ok_or(SourceClosed)
    }

    fn publish(&mut self, _: &str, _: Vec<u8>) -> Result<(), SourceClosed> {
        Err(SourceClosed)
    }
}

#[test]
fn what_is_in_hand_is_committed_even_when_the_source_has_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), Options::default(), START).unwrap();
    let source = Closing(Some(block(0)));
    let (ingest, handle) = Ingest::new(journal, source, Metrics::default(), || START);
    let (_stop, shutdown) = watch::channel(false);
    assert!(matches!(ingest.run(shutdown), Err(IngestError::Source(_))));
    let upto = *handle.committed.borrow();
    assert!(matches!(
        &commits(dir.path(), upto)[0].entries[..],
        [(_, Entry::Block { .. }), (_, Entry::Started { .. })]
    ));
}

#[test]
fn a_second_without_traffic_is_a_tick() {
    let polls = (3 * TICK_NANOS / POLL.as_nanos() as i64) as usize;
    let played = play(vec![None; polls]);
    let commits = played.commits();
    assert_eq!(played.entries(), vec![Entry::Tick; 3]);
    for (second, commit) in commits.iter().enumerate() {
        assert_eq!(commit.time, START.plus_nanos((second as i64 + 1) * TICK_NANOS));
    }
}

#[test]
fn a_hello_is_answered_for_every_epoch_and_books_what_nobody_has() {
    let held = |epoch, next, ranges: &[Range]| HeldEpoch {
        epoch,
        next,
        held: Ranges::from_slice(ranges).unwrap(),
        freed_by: None,
    };
    let epochs = [
        held(EPOCH, 4, &[Range::new(3, 4).unwrap()]),
        held(Epoch(2), 0, &[]),
    ];
    let hello = Hello::first(MasterId(1), heapless::Vec::from_slice(&epochs).unwrap());
    let hello = message(&gateway("gw-1"), Kind::Hello, encoded(&hello));
    let played = play(vec![Some(block(0)), None, Some(hello), None]);
    let acks = played.acks();
    assert_eq!(
        acks[1..]
            .iter()
            .map(|ack| (ack.epoch, ack.received.upto()))
            .collect::<Vec<_>>(),
        [(EPOCH, 3), (Epoch(2), 0)]
    );
    assert_eq!(
        played.entries()[1..],
        [Entry::Lost {
            gateway: gateway("gw-1"),
            epoch: EPOCH,
            blocks: Range::new(1, 3).unwrap(),
            cause: LossCause::NotHeld,
        }]
    );
}

#[test]
fn an_invalid_envelope_is_rejected_and_not_journaled() {
    let mut broken = block(0);
    broken.payload = b"TRB1 and then nonsense, forty bytes of it".to_vec().into();
    let crc = crc32c(&broken.payload);
    let played = play(vec![Some(broken), None]);
    assert_eq!(played.entries(), []);
    let [sent] = &played.published[..] else {
        panic!("one message");
    };
    assert_eq!(sent.topic, "trunnion/down/bremen/gw-1/reject");
    let reject: Reject = message::decode(&sent.payload).unwrap();
    assert_eq!(
        reject,
        Reject {
            crc,
            reason: RejectReason::LengthMismatch
        }
    );
    let reason = RejectReason::LengthMismatch.label();
    let counted = played
        .metrics
        .messages_rejected
        .get_or_create(&Reason { reason })
        .get();
    assert_eq!(counted, 1);
}

#[test]
fn a_block_that_nobody_can_read_is_journaled_acknowledged_and_then_refused() {
    let mut envelope = trunnion_common::block::Envelope::new(
        EPOCH,
        0,
        trunnion_common::block::Lane::Live,
        trunnion_common::block::Kind::Frames,
    );
    envelope.body_version += 1;
    let mut later = block(0);
    later.payload = [&envelope.encode(b"later")[..], b"later"].concat().into();
    let crc = crc32c(&later.payload);
    let played = play(vec![Some(later.clone()), None, Some(later), None]);
    assert_eq!(played.entries().len(), 1);
    let topics: Vec<_> = played.published.iter().map(|sent| &sent.topic[..]).collect();
    let (ack, reject) = (
        "trunnion/down/bremen/gw-1/ack",
        "trunnion/down/bremen/gw-1/reject",
    );
    assert_eq!(
        topics,
        [ack, reject, ack],
        "told once, and acknowledged each time"
    );
    let reason = RejectReason::BodyVersion;
    assert_eq!(
        message::decode::<Reject>(&played.published[1].payload),
        Ok(Reject { crc, reason })
    );
}

#[test]
fn the_last_word_of_a_gateway_is_kept() {
    let status = |phase| {
        let status = GatewayStatus {
            phase,
            agent_version: heapless::String::try_from("1.2.3").unwrap(),
            utc: START,
            nodes: 3,
            spool_blocks: 4,
            spool_bytes: 5,
            life: 1,
            connection: 1,
            health: trunnion_common::message::GatewayHealth::default(),
        };
        Some(message(&gateway("gw-2"), Kind::Status, encoded(&status)))
    };
    let played = play(vec![
        Some(block(0)),
        status(Phase::Birth),
        status(Phase::Death),
        None,
    ]);
    let table = played.handle.gateways.snapshot();
    let connected: BTreeMap<_, _> = table
        .iter()
        .map(|(id, gateway)| (id.gateway.as_str(), gateway.connected))
        .collect();
    assert_eq!(connected, BTreeMap::from([("gw-1", true), ("gw-2", false)]));
    assert_eq!(table[&gateway("gw-2")].status.as_ref().unwrap().nodes, 3);
}

#[test]
fn settings_go_through_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::default();
    let played = play_on(
        FaultyDisk::default(),
        dir,
        vec![None],
        &[IngestCommand::Settings(settings.clone())],
    );
    let (effective, text) = (EventTime(i64::MIN), settings.to_text());
    assert_eq!(played.entries(), [Entry::Settings { effective, text }]);
}

#[test]
fn a_fleet_file_goes_through_the_journal() {
    let fleet = |text: &str| IngestCommand::Fleet {
        text: text.to_owned(),
        effective: START,
    };
    let long = "x".repeat(FLEET_BYTES_MAX + 1);
    let commands = [fleet("site = \"bremen\""), fleet(&long)];
    let dir = tempfile::tempdir().unwrap();
    let played = play_on(FaultyDisk::default(), dir, vec![None], &commands);
    let text = "site = \"bremen\"".to_owned();
    let effective = START;
    assert_eq!(played.entries(), [Entry::Fleet { effective, text }]);
}

#[test]
fn a_group_is_bounded_in_time_and_size() {
    let count = 2 * GROUP_ENTRIES as u64;
    let script = (0..count).map(|n| Some(block(n))).chain([None]).collect();
    let played = play(script);
    let commits = played.commits();
    // The first one says by which name the journal goes, too.
    assert!(
        commits
            .iter()
            .all(|commit| commit.entries.len() <= GROUP_ENTRIES + 1)
    );
    assert_eq!(played.entries().len(), count as usize);
    assert_eq!(played.acks().last().unwrap().received.upto(), count);
}

#[test]
fn credit_is_shared_within_its_bounds() {
    assert_eq!(credit(0), 4 << 20);
    assert_eq!(credit(16), 4 << 20);
    assert_eq!(credit(64), 1 << 20);
    assert_eq!(credit(100_000), 128 << 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any order and any number of copies, with a disk that fails now and then and a restart in
    /// between: every block is stored once and acknowledged.
    #[test]
    fn every_block_is_stored_exactly_once(
        order in Just((0..24u64).flat_map(|n| [n, n]).collect::<Vec<_>>()).prop_shuffle(),
        quiet in prop::collection::vec(any::<bool>(), 48),
        restart in 0..48usize,
        fail in 2..30usize,
    ) {
        let script = |range: std::ops::Range<usize>| -> Script {
            let steps = order[range.clone()].iter().zip(&quiet[range]);
            let messages = steps.flat_map(|(&n, &quiet)| [Some(Some(block(n))), quiet.then_some(None)]);
            messages.flatten().chain([None]).collect()
        };
        let disk = FaultyDisk::failing(fail..fail + 2, ErrorKind::Other);
        let first = play_on(disk, tempfile::tempdir().unwrap(), script(0..restart), &[]);
        prop_assume!(first.outcome.is_ok());
        let second = play_on(FaultyDisk::default(), first.dir, script(restart..order.len()), &[]);
        second.outcome.as_ref().unwrap();

        let end = *second.handle.committed.borrow();
        let stored = commits(second.dir.path(), end).into_iter().flat_map(|commit| commit.entries);
        let mut sequences: Vec<u64> = stored
            .filter_map(|(_, entry)| match entry {
                Entry::Block { bytes, .. } => {
                    Some(trunnion_common::block::Block::parse(&bytes).unwrap().envelope.sequence)
                }
                _ => None,
            })
            .collect();
        sequences.sort_unstable();
        // With 24 blocks there are never more than 16 ranges, so no hole is ever given up.
        prop_assert_eq!(sequences, (0..24).collect::<Vec<_>>());
        let received = Journal::open(second.dir.path(), Options::default(), START).unwrap().0;
        prop_assert_eq!(received.sets().blocks.received(&gateway("gw-1"), EPOCH).upto(), 24);
    }
}
