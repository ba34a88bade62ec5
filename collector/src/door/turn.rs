//! One session per gateway: the newest, and never two at the broker.

use super::limit::{Bucket, Rate};
use super::refusal::{Refusal, RefusalReason};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};
use trunnion_common::id::GatewayId;

/// How long an older session may take to leave the broker.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Who is connected. Bounded by the gateways that the authority has signed for.
pub(crate) struct Turns {
    rate: Rate,
    gateways: Mutex<HashMap<GatewayId, Entry>>,
}

struct Entry {
    attempts: Bucket,
    /// The number of the newest session.
    newest: watch::Sender<u64>,
    /// Held by the session that is at the broker, until it has left.
    place: Arc<AsyncMutex<()>>,
}

/// A session's right to be at the broker, until it is dropped.
pub(crate) struct Turn {
    number: u64,
    newest: watch::Receiver<u64>,
    _place: OwnedMutexGuard<()>,
}

impl Turns {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            gateways: Mutex::default(),
        }
    }

    /// Ends the gateway's older session and waits until it has left the broker.
    pub(crate) async fn claim(&self, gateway: &GatewayId, now: Instant) -> Result<Turn, Refusal> {
        let (number, mut newest, place) = {
            // Nothing below can panic half-way, so a poisoned map is a whole one.
            let mut gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = gateways.entry(gateway.clone()).or_insert_with(|| Entry {
                attempts: Bucket::new(self.rate, now),
                newest: watch::Sender::new(0),
                place: Arc::default(),
            });
            if !entry.attempts.admit(now) {
                let detail = "this gateway connects too often; do two machines share its certificate?";
                return Err(Refusal::new(RefusalReason::TooManyAttempts, detail));
            }
            let number = *entry.newest.borrow() + 1;
            entry.newest.send_replace(number);
            (number, entry.newest.subscribe(), entry.place.clone())
        };
        let place = tokio::select! {
            place = place.lock_owned() => place,
            () = superseded(&mut newest, number) => return Err(taken_over()),
            () = tokio::time::sleep(HANDOVER_TIMEOUT) => {
                let detail = "the gateway's older session has not left the broker";
                return Err(Refusal::new(RefusalReason::BrokerUnavailable, detail));
            }
        };
        Ok(Turn {
            number,
            newest,
            _place: place,
        })
    }
}

impl Turn {
    /// Returns when a newer session of the gateway wants its place.
    pub(crate) async fn superseded(&mut self) -> Refusal {
        superseded(&mut self.newest, self.number).await;
        taken_over()
    }
}

async fn superseded(newest: &mut watch::Receiver<u64>, number: u64) {
    // An error means that the door is gone, and every session with it.
    let _ = newest.wait_for(|newest| *newest != number).await;
}

fn taken_over() -> Refusal {
    Refusal::new(
        RefusalReason::TakenOver,
        "a newer connection of the same gateway took over",
    )
}
