//! `GET /api/v1/ledger`: where every sample went, per channel and boot, in samples.
//!
//! ```json
//! {"balanced": true, "truncated": false,
//!  "totals": {"produced": 100, "stored": 97, "lost": 2, "lost_by_cause": {"outbox_full": 2}, "pending": 1,
//!    "unexplained": 0, "duplicated": 0, "balanced": true},
//!  "rows": [{"node": "00000000000000a1", "boot": "0000000100000007", "channel": 0, "produced": 100, "...": 0}]}
//! ```
//!
//! A row is balanced when `produced = stored + lost + pending` and nothing is unexplained. Samples that
//! came again are counted beside it as `duplicated`. The totals count every row, also those that
//! `truncated` leaves out.

use super::Api;
use super::error::ApiError;
use crate::ledger::LedgerRow;
use crate::state::StateReader;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;

/// Most rows in one answer.
pub const ROWS_MAX: usize = 10_000;

/// The body of the answer.
#[derive(Serialize)]
pub(super) struct Ledger {
    balanced: bool,
    truncated: bool,
    totals: Account,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    node: String,
    boot: String,
    channel: u16,
    #[serde(flatten)]
    account: Account,
}

/// One side of the equation and the other.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
struct Account {
    produced: u64,
    stored: u64,
    lost: u64,
    lost_by_cause: BTreeMap<&'static str, u64>,
    pending: u64,
    unexplained: u64,
    duplicated: u64,
    balanced: bool,
}

pub(super) async fn read(State(api): State<Api>) -> Result<Json<Ledger>, ApiError> {
    let mut ledger = Ledger {
        balanced: true,
        truncated: false,
        totals: Account {
            balanced: true,
            ..Account::default()
        },
        rows: Vec::new(),
    };
    let read = move |state: &StateReader| {
        state.for_each_ledger_row(|found| {
            ledger.totals = std::mem::take(&mut ledger.totals).plus(account(&found));
            if ledger.rows.len() < ROWS_MAX {
                ledger.rows.push(row(&found));
            } else {
                ledger.truncated = true;
            }
        })?;
        ledger.balanced = ledger.totals.balanced;
        Ok(ledger)
    };
    Ok(Json(api.readers.read(read).await?))
}

fn row(row: &LedgerRow) -> Row {
    Row {
        node: row.node.to_string(),
        boot: row.boot.to_string(),
        channel: row.channel.get(),
        account: account(row),
    }
}

fn account(row: &LedgerRow) -> Account {
    // Counts come from nodes: a wild one must not end in an overflow.
    let lost = row
        .lost
        .iter()
        .fold(0, |sum: u64, (_, samples)| sum.saturating_add(*samples));
    let explained = row.stored.saturating_add(lost).saturating_add(row.pending);
    Account {
        produced: row.produced,
        stored: row.stored,
        lost,
        lost_by_cause: row
            .lost
            .iter()
            .map(|(cause, samples)| (cause.label(), *samples))
            .collect(),
        pending: row.pending,
        unexplained: row.unexplained,
        duplicated: row.duplicated,
        balanced: row.unexplained == 0 && row.produced == explained,
    }
}

impl Account {
    /// Both together: balanced only if each is, so that no surplus hides another's deficit.
    fn plus(mut self, other: Self) -> Self {
        for (cause, samples) in other.lost_by_cause {
            let sum = self.lost_by_cause.entry(cause).or_default();
            *sum = sum.saturating_add(samples);
        }
        Self {
            produced: self.produced.saturating_add(other.produced),
            stored: self.stored.saturating_add(other.stored),
            lost: self.lost.saturating_add(other.lost),
            lost_by_cause: self.lost_by_cause,
            pending: self.pending.saturating_add(other.pending),
            unexplained: self.unexplained.saturating_add(other.unexplained),
            duplicated: self.duplicated.saturating_add(other.duplicated),
            balanced: self.balanced && other.balanced,
        }
    }
}
