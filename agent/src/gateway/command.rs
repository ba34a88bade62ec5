//! The gateway's part in commands: what [`crate::command`] decides is done with lines, disk and connection.

use super::{Action, Gateway, Metrics};
use crate::clock::Now;
use crate::command::Effect;
use crate::line::Line;
use std::time::Duration;
use trunnion_common::message::GatewaySettings;
use trunnion_common::topic;

impl Gateway {
    /// A message on the command topic.
    pub(super) fn handle_command(&mut self, payload: &[u8], now: Now) {
        self.metrics.commands.inc();
        // As for connections: never before what is known to be past.
        let utc = now.utc.max(self.timekeeper.floor().utc());
        if let Err(refused) = self.commands.handle_message(payload, Now { utc, ..now }) {
            Metrics::label(&self.metrics.commands_refused, refused.label()).inc();
            tracing::warn!(
                reason = refused.label(),
                "a command that is not the collector's is refused"
            );
        }
    }

    /// Does what commands ask for now.
    pub(super) fn poll_commands(&mut self, now: Now) {
        let Self { commands, lines, .. } = self;
        let find = |node| {
            let mut lines = lines.iter().map(Line::nodes).enumerate();
            lines.find_map(|(line, mut nodes)| nodes.find(|key| key.0 == node).map(|key| (line, key)))
        };
        let Some(effect) = commands.poll(now.mono, find) else {
            return;
        };
        match effect {
            Effect::Keep(record) => self.actions.push_back(Action::Keep(record)),
            Effect::Send((line, key), payload) => {
                let bytes = self.lines[line].command(key, &payload);
                self.actions.extend(bytes.map(|bytes| Action::Write(line, bytes)));
            }
            Effect::Answer(result) => {
                let (number, outcome) = (result.number, result.outcome.label());
                Metrics::label(&self.metrics.command_results, outcome).inc();
                tracing::info!(number, outcome, "answered a command");
                self.publish(topic::Kind::Result, &result);
            }
            Effect::Configure(settings) => self.configure(settings, now),
            Effect::Follow(unusuals) => self.watches.follow(&unusuals, now.mono),
            Effect::Watch(plan, searches, examinations) => {
                self.watches.configure(&plan, &searches, &examinations, now.mono);
                self.metrics.watched_channels.set(self.watches.channels() as i64);
            }
        }
    }

    fn configure(&mut self, settings: GatewaySettings, now: Now) {
        let heartbeat = settings
            .heartbeat_interval_ms
            .map(|ms| Duration::from_millis(ms.into()));
        self.heartbeat_interval = heartbeat.unwrap_or(self.heartbeat_configured);
        self.heartbeat_due = self.heartbeat_due.min(now.mono + self.heartbeat_interval);
        self.publisher
            .set_drain(self.drain_configured.changed_by(&settings));
    }
}
