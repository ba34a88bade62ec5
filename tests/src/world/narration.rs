//! What a world's journal says of one node, for a person who looks for what went wrong in it.

use std::fmt::Write;
use trunnion_collector::journal::{Commit, Entry};
use trunnion_collector::ledger::LedgerRow;
use trunnion_collector::pipeline::{Output, Pipeline};
use trunnion_common::block::{Block, Body, Holding};
use trunnion_common::frame::{Payload, RawFrame};
use trunnion_common::id::NodeId;

/// A line for every entry that is about the node or the order of its gateway's starts, and for every row of
/// the ledger that changed by it.
pub(super) fn tell(commits: &[Commit], node: NodeId) -> Vec<String> {
    let mut pipeline = Pipeline::new();
    let mut lines = Vec::new();
    for commit in commits {
        for (position, entry) in &commit.entries {
            let told = tell_entry(entry, node);
            lines.extend(told.into_iter().map(|line| format!("{position} {line}")));
        }
        for output in pipeline.apply(commit) {
            if let Output::Ledger(row) = output
                && row.node == node
            {
                lines.push(tell_row(&row));
            }
        }
    }
    lines
}

fn tell_row(row: &LedgerRow) -> String {
    let LedgerRow {
        boot,
        channel,
        produced,
        stored,
        lost,
        pending,
        unexplained,
        ..
    } = row;
    let boot = boot.counter();
    format!(
        "    boot {boot} channel {channel}: {produced} produced, {stored} stored, lost {lost:?}, {pending} pending, \
         {unexplained} unexplained"
    )
}

fn tell_entry(entry: &Entry, node: NodeId) -> Vec<String> {
    match entry {
        Entry::Block { gateway, bytes } => {
            let Ok(block) = Block::parse(bytes) else {
                return vec![format!("{}: an unreadable block", gateway.gateway)];
            };
            let (epoch, sequence) = (block.envelope.epoch, block.envelope.sequence);
            let head = format!("{} {epoch}/{sequence} {:?}: ", gateway.gateway, block.lane());
            let told = tell_block(&block, node);
            told.into_iter().map(|line| head.clone() + &line).collect()
        }
        Entry::Lost {
            gateway,
            epoch,
            blocks,
            cause,
        } => {
            vec![format!(
                "{}: blocks {blocks:?} of {epoch} are lost, {cause:?}",
                gateway.gateway
            )]
        }
        Entry::EpochClosed { gateway, epoch } => vec![format!("{}: {epoch} is closed", gateway.gateway)],
        Entry::Superseded { gateway, starts } => {
            vec![format!(
                "{}: {} starts are superseded",
                gateway.gateway,
                starts.len()
            )]
        }
        Entry::DeliveredElsewhere { gateway, to, cause } => {
            vec![format!(
                "{}: delivered to {} before, missing here: {cause:?}",
                gateway.gateway, to.name
            )]
        }
        _ => Vec::new(),
    }
}

fn tell_block(block: &Block<'_>, node: NodeId) -> Vec<String> {
    match block.decode() {
        Ok(Body::Frames(records)) => {
            let frames = records.map_while(Result::ok);
            frames
                .filter_map(|record| tell_frame(&RawFrame::parse(record.frame).ok()?, node))
                .collect()
        }
        Ok(Body::Gap(gap)) if gap.node == node => {
            let (boot, class, ranges) = (gap.boot.counter(), gap.class, &gap.ranges);
            vec![format!(
                "gap of boot {boot}, {class:?} {ranges:?}, {:?}",
                gap.cause
            )]
        }
        Ok(Body::Tombstone(tombstone)) => {
            let mut line = format!(
                "tombstone of {} {:?}, {:?}",
                tombstone.epoch, tombstone.blocks, tombstone.cause
            );
            for (_, boot, channel, samples) in tombstone.samples.iter().filter(|lost| lost.0 == node) {
                let _ = write!(
                    line,
                    "; {samples} samples of boot {} channel {channel}",
                    boot.counter()
                );
            }
            for (_, boot, class, ranges) in tombstone.frames.iter().filter(|lost| lost.0 == node) {
                let _ = write!(line, "; boot {} {class:?} {ranges:?}", boot.counter());
            }
            vec![line]
        }
        Ok(Body::Status(records)) => {
            let holdings = records.map_while(Result::ok);
            holdings
                .filter(|holding| holding.node == node)
                .map(|holding| tell_holding(&holding))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn tell_holding(holding: &Holding) -> String {
    let mut line = format!("held of boot {}", holding.boot.counter());
    for channel in &holding.channels {
        let _ = write!(
            line,
            "; channel {}: {} produced, at the node from {}, at the agent {:?}",
            channel.channel, channel.produced, channel.at_node, channel.at_agent
        );
    }
    line
}

fn tell_frame(frame: &RawFrame<'_>, node: NodeId) -> Option<String> {
    let header = frame.header();
    if header.node != node {
        return None;
    }
    let head = format!(
        "boot {} {:?} {}: ",
        header.boot.counter(),
        header.class,
        header.sequence
    );
    let samples = |channel, first, count: u64| format!("channel {channel} {first}..{}", first + count);
    let what = match frame.payload().ok()? {
        Payload::Waveform(waveform) => {
            samples(waveform.channel, waveform.first_sample, waveform.count.into())
        }
        Payload::Scalar(scalar) => samples(scalar.channel, scalar.first_sample, scalar.readings.len() as u64),
        Payload::Status(status) => format!("{:?}, held {:?}", status.channels, status.held),
        _ => return None,
    };
    Some(head + &what)
}
