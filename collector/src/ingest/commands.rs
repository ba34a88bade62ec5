//! What ingest journals beside blocks, since it alone writes: what others ask for, and commands to gateways.

use super::{BlockSource, Ingest, SourceClosed};
use crate::command::{LOOK_INTERVAL, Step, Subject, Wanted};
use crate::dead_letter::Letter;
use crate::decision::Decision;
use crate::journal::Entry;
use crate::settings::Settings;
use trunnion_common::message::Action;
use trunnion_common::time::EventTime;
use trunnion_common::topic::{Kind, Topic};
use trunnion_diagnosis::features::Depth;

/// What others ask ingest to journal, since it alone writes.
#[derive(Clone, PartialEq, Debug)]
pub enum IngestCommand {
    /// The fleet file changed.
    Fleet {
        /// The TOML text, at most [`FLEET_BYTES_MAX`].
        text: String,
        /// From when on.
        effective: EventTime,
    },
    /// The settings of this start, in force as soon as that can be ([`Entry::Settings`]).
    Settings(Settings),
    /// How much is to be computed of each window from here on ([`Entry::Shed`]).
    Shed(Depth),
    /// What the fleet file wants of gateways and nodes ([`crate::command`]).
    Wanted(Box<Wanted>),
    /// What a person wants of a node, once.
    Order(Box<Action>),
    /// Dead letters that a person wants replayed; they are journaled in one commit.
    Replay(Vec<Letter>),
    /// What a person decided about a machine.
    Decide(Box<Decision>),
    /// What was learned of a fleet.
    Learned {
        /// The name that assets give.
        name: String,
        /// As it is kept.
        bytes: Vec<u8>,
    },
}

/// Longest fleet file that is journaled; one of ten thousand channels has about half of it.
pub const FLEET_BYTES_MAX: usize = 4 << 20;

/// Commands waiting; whoever sends one more is blocked until ingest has taken one.
pub(super) const COMMANDS_MAX: usize = 16;

impl<S: BlockSource, C: Fn() -> EventTime> Ingest<S, C> {
    /// Journals what others have asked for.
    pub(super) fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                IngestCommand::Fleet { text, effective } if text.len() <= FLEET_BYTES_MAX => {
                    self.journal.append(&Entry::Fleet { effective, text });
                }
                IngestCommand::Settings(settings) => self.journal.append(&Entry::Settings {
                    effective: EventTime(i64::MIN),
                    text: settings.to_text(),
                }),
                IngestCommand::Shed(depth) => self.journal.append(&Entry::Shed { depth }),
                IngestCommand::Replay(letters) => {
                    for letter in letters {
                        self.journal.append(&Entry::Replayed(Box::new(letter)));
                    }
                }
                IngestCommand::Decide(decision) => self.journal.append(&Entry::Decided(decision)),
                IngestCommand::Learned { name, bytes } => {
                    self.journal.append(&Entry::Learned { name, bytes });
                }
                IngestCommand::Wanted(wanted) => {
                    self.desk.want(*wanted);
                    self.looked = None;
                }
                IngestCommand::Order(action) => {
                    self.looked = None;
                    if !self.desk.order(*action, (self.clock)()) {
                        tracing::error!("too many orders wait: one is refused");
                    }
                }
                IngestCommand::Fleet { text, .. } => {
                    tracing::error!(
                        bytes = text.len(),
                        limit = FLEET_BYTES_MAX,
                        "the fleet file is too long and not in force"
                    );
                    self.refused("fleet_too_long");
                }
            }
        }
    }

    /// Asks the desk what gateways are to be told, as of what is committed.
    pub(super) fn look_at_commands(&mut self) {
        let now = (self.clock)();
        let interval = LOOK_INTERVAL.as_nanos() as i64;
        let is_due = self
            .looked
            .is_none_or(|looked| !(0..interval).contains(&now.nanos_since(looked)));
        if self.signer.is_none() || !is_due {
            return;
        }
        self.looked = Some(now);
        let log = &self.journal.sets().commands;
        self.gateways.show(self.desk.rows(log));
        for step in self.desk.poll(log, &self.gateways.connected(), now) {
            let (gateway, command) = match step {
                Step::Resend(gateway, command) => (gateway, command),
                Step::Issue(gateway, command) => {
                    let number = command.number;
                    // What was learned of a group of channels would be pages of numbers.
                    let subject = Subject::of(&command.action);
                    tracing::info!(%gateway, number, ?subject, "a command is given");
                    self.metrics.commands_issued.inc();
                    self.journal.append(&Entry::Command {
                        gateway: gateway.clone(),
                        issued: now,
                        command: Box::new(command.clone()),
                    });
                    (gateway, command)
                }
            };
            self.commanded.push((gateway, command));
        }
    }

    /// Sends what has been committed. What cannot be signed is tried again when it would be sent again.
    pub(super) fn send_commands(&mut self) -> Result<(), SourceClosed> {
        for (gateway, command) in std::mem::take(&mut self.commanded) {
            let Some(signer) = &self.signer else {
                break;
            };
            match signer.sign(&gateway, &command) {
                Ok(payload) => {
                    self.metrics.commands_sent.inc();
                    let kind = Kind::Command;
                    self.source.publish(&Topic { gateway, kind }.text(), payload)?;
                }
                Err(error) => {
                    tracing::error!(%gateway, number = command.number, %error, "a command cannot be signed");
                }
            }
        }
        Ok(())
    }
}
