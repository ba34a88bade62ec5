//! `trunnion-collector dead-letter`: what an operator sees of dead letters, and asks for.
//!
//! It reads the collector's state and journal beside the running collector, and writes neither: a replay is
//! a request that the running collector takes ([`crate::command::request`]).

use super::{Form, Letter, LetterId, ReadError};
use crate::command::request::{LETTERS_MAX, Request, RequestError};
use crate::state::{DeadLetterRow, LetterQuery, StateError, StateReader};
use bytes::Bytes;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use trunnion_common::block::{Block, Body, Codec, Kind, Lane, Readings};
use trunnion_common::frame::{Payload, RawFrame};
use trunnion_common::id::{GatewayId, Name};
use trunnion_common::time::EventTime;

/// Most letters that one command has replayed; what is more stays for the next.
pub const REPLAYED_AT_ONCE: usize = 16 * LETTERS_MAX;

/// The data directory's state and journal.
#[derive(Debug)]
pub struct Letters {
    data_dir: PathBuf,
    state: StateReader,
}

/// Why a command about dead letters cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The payload cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The request cannot be left.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It is not listed.
    #[error("no dead letter {0} is listed; `dead-letter list` shows those that are")]
    NoSuchLetter(LetterId),
    /// It did not come from a gateway.
    #[error("{0} is a text of this collector's own files: mend it there, and send SIGHUP or start again")]
    Text(LetterId),
    /// A time that is none.
    #[error("--since {0}")]
    Since(String),
}

impl Letters {
    /// Those of the collector whose data directory this is.
    pub fn open(data_dir: &Path) -> Result<Self, ToolError> {
        Ok(Self {
            data_dir: data_dir.to_owned(),
            state: StateReader::open(&data_dir.join("state.db"))?,
        })
    }

    /// Letters, newest first.
    pub fn list(&self, query: &LetterQuery) -> Result<Vec<DeadLetterRow>, ToolError> {
        Ok(self.state.dead_letters(query)?)
    }

    /// One letter and its payload: as the state keeps it, or as the journal has it.
    pub fn show(&self, id: LetterId) -> Result<(DeadLetterRow, Bytes), ToolError> {
        let row = self.state.dead_letter(id)?.ok_or(ToolError::NoSuchLetter(id))?;
        if let Some(payload) = self.state.dead_payload(id)? {
            return Ok((row, payload.into()));
        }
        let upto = self
            .state
            .position()?
            .ok_or(ToolError::NoSuchLetter(id))?
            .position;
        let payload = Letter::read(&self.data_dir.join("journal"), upto, id, row.form)?;
        Ok((row, payload))
    }

    /// A letter with all that is needed to replay it.
    pub fn letter(&self, id: LetterId) -> Result<Letter, ToolError> {
        let (row, payload) = self.show(id)?;
        let gateway = row.gateway.as_deref().and_then(parse_gateway);
        Ok(Letter {
            id,
            gateway: gateway.ok_or(ToolError::Text(id))?,
            backfill: row.backfill,
            arrival: row.arrival,
            fix: row.fix,
            form: row.form,
            payload,
        })
    }

    /// Asks the running collector to replay them: at most [`REPLAYED_AT_ONCE`]. Nothing is asked for if one
    /// of them cannot be replayed.
    pub fn ask(&self, ids: &[LetterId]) -> Result<Vec<PathBuf>, ToolError> {
        for &id in ids {
            let row = self.state.dead_letter(id)?.ok_or(ToolError::NoSuchLetter(id))?;
            if row.form == Form::Text {
                return Err(ToolError::Text(id));
            }
        }
        let requests = ids.chunks(LETTERS_MAX).map(|ids| Request::Replay {
            letters: ids.iter().map(ToString::to_string).collect(),
        });
        requests
            .map(|request| Ok(request.leave(&self.data_dir)?))
            .collect()
    }
}

/// A letter as one JSON object.
pub fn to_json(row: &DeadLetterRow) -> Value {
    json!({
        "id": row.id.to_string(),
        "reason": row.reason,
        "gateway": row.gateway,
        "lane": if row.backfill { "backfill" } else { "live" },
        "form": row.form.label(),
        "bytes": row.bytes,
        "fix": row.fix,
        "time": rfc3339(row.time),
        "time_ns": row.time.0,
        "arrival": rfc3339(row.arrival),
        "arrival_ns": row.arrival.0,
        "replay": row.replay.as_ref().map(|replay| json!({
            "time": rfc3339(replay.time),
            "time_ns": replay.time.0,
            "outcome": replay.outcome,
            "samples": replay.samples,
        })),
    })
}

/// What can be read of a payload, as far as it decodes, for people.
pub fn describe(form: Form, item: u32, payload: &[u8]) -> Vec<String> {
    match form {
        Form::Text => String::from_utf8_lossy(payload)
            .lines()
            .map(str::to_owned)
            .collect(),
        Form::Frame => describe_frame(payload),
        Form::Readings => match postcard::from_bytes::<Readings>(payload) {
            Ok(readings) => vec![format!(
                "readings of node {} boot {} channel {}: {} from index {}, clock fix {}",
                readings.node,
                readings.boot,
                readings.channel,
                readings.readings.len(),
                readings.first_sample,
                readings.fix
            )],
            Err(error) => vec![format!("readings that do not decode: {error}")],
        },
        Form::Block => describe_block(item, payload),
    }
}

fn describe_frame(bytes: &[u8]) -> Vec<String> {
    let frame = match RawFrame::parse(bytes) {
        Ok(frame) => frame,
        Err(reason) => return vec![format!("a frame that does not decode: {reason}")],
    };
    let header = frame.header();
    let mut lines = vec![format!(
        "frame of node {} boot {}: {:?} {}, version {}, ticks {} us",
        header.node, header.boot, header.class, header.sequence, header.version, header.ticks.0
    )];
    lines.push(match frame.payload() {
        Err(reason) => format!("payload: {reason}"),
        Ok(Payload::Waveform(waveform)) => format!(
            "waveform of channel {}: {} samples from index {}, channel table {}",
            waveform.channel, waveform.count, waveform.first_sample, waveform.revision
        ),
        Ok(Payload::Scalar(scalar)) => format!(
            "readings of channel {}: {} from index {}, channel table {}",
            scalar.channel,
            scalar.readings.len(),
            scalar.first_sample,
            scalar.revision
        ),
        Ok(payload) => format!("{payload:?}"),
    });
    lines
}

fn describe_block(item: u32, bytes: &[u8]) -> Vec<String> {
    let block = match Block::parse(bytes) {
        Ok(block) => block,
        Err(reason) => return vec![format!("a block that does not parse: {reason}")],
    };
    let envelope = block.envelope;
    let lane = if block.lane() == Lane::Live {
        "live"
    } else {
        "backfill"
    };
    let kind = Kind::from_number(envelope.kind);
    let mut lines = vec![format!(
        "block {} of epoch {}, {lane}: kind {} ({}), codec {}{}, body version {} of {} bytes",
        envelope.sequence,
        envelope.epoch,
        envelope.kind,
        kind.map_or("unknown".to_owned(), |kind| format!("{kind:?}")),
        envelope.codec,
        if envelope.codec == Codec::None as u8 {
            ""
        } else {
            " (unknown)"
        },
        envelope.body_version,
        block.body.len()
    )];
    match block.decode() {
        Err(reason) => lines.push(format!("body: {reason}")),
        Ok(Body::Frames(records)) => {
            let readable = records.take_while(Result::is_ok).count();
            lines.push(format!("{readable} frames can be read, and record {item} cannot"));
        }
        Ok(_) => lines.push(format!("record {item} cannot be read")),
    }
    lines
}

/// Bytes as people look at them: sixteen a line, with their offset and what is printable of them.
pub fn hexdump(bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    bytes.chunks(16).enumerate().map(|(n, line)| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let printable = line.iter().map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '.',
        });
        let text: String = printable.collect();
        format!("{:08x}  {:<47}  |{text}|", 16 * n, hex.join(" "))
    })
}

/// Reads `--since`: RFC 3339, or nanoseconds since 1970.
pub fn parse_since(text: &str) -> Result<EventTime, ToolError> {
    crate::api::parse_time(text).map_err(ToolError::Since)
}

/// An instant for people.
pub fn rfc3339(at: EventTime) -> String {
    crate::api::write_time(at)
}

fn parse_gateway(text: &str) -> Option<GatewayId> {
    let (site, gateway) = text.split_once('/')?;
    Some(GatewayId {
        site: Name::new(site).ok()?,
        gateway: Name::new(gateway).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_has_sixteen_bytes_a_line_and_shows_what_is_printable() {
        let bytes: Vec<u8> = (b'A'..b'A' + 17).chain([0]).collect();
        let lines: Vec<_> = hexdump(&bytes).collect();
        assert_eq!(
            lines,
            [
                "00000000  41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f 50  |ABCDEFGHIJKLMNOP|",
                "00000010  51 00                                            |Q.|",
            ]
        );
    }

    #[test]
    fn whatever_a_payload_is_it_is_described_without_a_panic() {
        for form in Form::ALL {
            for payload in [&b""[..], b"\xff\xff\xff\xff", &[0; 100]] {
                let _ = describe(form, 3, payload);
            }
        }
        assert_eq!(describe(Form::Text, 0, b"a\nb"), ["a", "b"]);
        assert_eq!(
            describe(Form::Frame, 0, b"xxxxxxxx"),
            ["a frame that does not decode: bad_crc"]
        );
    }

    #[test]
    fn a_gateways_name_is_read_as_the_state_writes_it() {
        let gateway = parse_gateway("bremen/gw-1").unwrap();
        assert_eq!(gateway.to_string(), "bremen/gw-1");
        assert_eq!(parse_gateway("bremen"), None);
    }
}
