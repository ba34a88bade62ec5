//! Network and broker: what becomes of connections and messages on their way.

use super::faults::Fault;
use super::{Event, Mutant, Session, World};
use bytes::Bytes;
use std::time::Duration;
use trunnion_agent::block::BlockKey;
use trunnion_agent::mqtt::MqttEvent;
use trunnion_common::ack::Hello;
use trunnion_common::block::{Block, Lane};
use trunnion_common::message;
use trunnion_common::topic::{Kind, Topic};

impl World<'_> {
    /// The connection that the agent believes to have.
    pub(super) fn session_of_agent(&mut self, gateway: usize) -> Option<(u64, &mut Session)> {
        let life = self.gateways[gateway].life();
        let mine = |session: &Session| session.gateway == gateway && session.life == life;
        let sessions = self.sessions.iter_mut().rev();
        sessions
            .map(|(id, session)| (*id, session))
            .find(|(_, session)| mine(session))
    }

    pub(super) fn connect(&mut self, gateway: usize, connection: u64) {
        let id = self.events;
        self.events += 1;
        let is_up = self.collector.is_running() && !self.gateways[gateway].is_partitioned;
        self.sessions.insert(
            id,
            Session {
                gateway,
                life: self.gateways[gateway].life(),
                connection,
                is_up,
                is_subscribed: false,
                free: [self.now; 2],
            },
        );
        let (delay, event) = if is_up {
            (self.chance.millis(2, 60), MqttEvent::Connected)
        } else {
            let refused = MqttEvent::Disconnected("nobody answers".to_owned());
            (self.chance.millis(5, 2_000), refused)
        };
        self.after(delay, Event::Mqtt { session: id, event });
    }

    /// Breaks a connection. What is on its way may still arrive, late; its agent notices in a while.
    pub(super) fn cut(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut session.is_up, false) {
            let noticed = if self.chance.one_in(4) {
                self.chance.millis(2_000, 15_000)
            } else {
                self.chance.millis(0, 500)
            };
            let event = MqttEvent::Disconnected("the connection broke".to_owned());
            self.after(noticed, Event::Mqtt { session: id, event });
        }
    }

    pub(super) fn handle_mqtt(&mut self, session: u64, event: MqttEvent) {
        let Some(&Session {
            gateway,
            life,
            connection,
            is_up,
            ..
        }) = self.sessions.get(&session)
        else {
            return;
        };
        let is_over = matches!(event, MqttEvent::Disconnected(_));
        if is_over {
            // What is on its way of it still finds it.
            if let Some(session) = self.sessions.get_mut(&session) {
                session.is_up = false;
            }
        } else if !is_up {
            return;
        }
        if self.gateways[gateway].life() == life && self.gateways[gateway].is_running() {
            let random = self.chance.next() as u32;
            self.gateways[gateway].handle_mqtt(connection, event, random, self.now);
            self.pump_agent(gateway);
        }
    }

    /// A block is on its way. Its lane is that of its first time, whatever becomes of it.
    pub(super) fn send_in_lane(&mut self, gateway: usize, key: BlockKey, payload: Bytes) -> Bytes {
        let Ok(block) = Block::parse(&payload) else {
            self.violations.push(format!(
                "block {} of epoch {} is sent damaged",
                key.sequence, key.epoch
            ));
            return payload;
        };
        let mut lane = block.lane();
        let name = (gateway, self.gateways[gateway].life(), key);
        let first = *self.lanes.entry(name).or_insert(lane);
        if self.mutant == Some(Mutant::LaneChangesOnResend) && self.chance.one_in(2) {
            lane = if first == Lane::Live {
                Lane::Backfill
            } else {
                Lane::Live
            };
        }
        if lane != first {
            self.violations.push(format!(
                "block {} of epoch {} goes in lane {lane:?} after {first:?}",
                key.sequence, key.epoch
            ));
        }
        if lane == Lane::Backfill {
            self.faults.note(Fault::HistorySent);
        }
        payload
    }

    pub(super) fn publish(&mut self, gateway: usize, kind: Kind, payload: Bytes) {
        let on_the_way = self.chance.millis(1, 15) + Duration::from_nanos(80 * payload.len() as u64);
        let now = self.now;
        if kind == Kind::Hello
            && let Ok(hello) = message::decode::<Hello>(&payload)
        {
            self.gateways[gateway].note_start(hello.start);
        }
        let Some((id, session)) = self.session_of_agent(gateway) else {
            return;
        };
        // A broken connection takes what it is given, until it notices.
        let at = session.free[0].max(now) + on_the_way;
        session.free[0] = at;
        let (session, late) = (id, false);
        self.at(
            at,
            Event::Uplink {
                session,
                kind,
                payload,
                late,
            },
        );
    }

    pub(super) fn handle_uplink(&mut self, session: u64, kind: Kind, payload: Bytes, late: bool) {
        let Some(&Session { gateway, is_up, .. }) = self.sessions.get(&session) else {
            return;
        };
        if !self.collector.is_running() {
            return;
        }
        if !is_up && !late {
            if !self.is_calm && self.chance.one_in(3) {
                let delay = self.chance.millis(10, 8_000);
                let late = true;
                self.after(
                    delay,
                    Event::Uplink {
                        session,
                        kind,
                        payload,
                        late,
                    },
                );
            }
            return;
        }
        if late {
            self.faults.note(Fault::MessageLate);
            if kind == Kind::Hello {
                // With its disk went all by which it could be told for an old one (ARCHITECTURE, known limits).
                let hello = message::decode::<Hello>(&payload);
                if hello.is_ok_and(|hello| self.gateways[gateway].has_vanished(hello.start)) {
                    return;
                }
                self.faults.note(Fault::HelloLate);
            }
        }
        let odds = if self.is_calm { 0 } else { self.weather.network };
        let mut times = 1;
        if self.chance.one_in(odds) {
            if self.chance.one_in(2) {
                self.faults.note(Fault::MessageLost);
                return;
            }
            self.faults.note(Fault::MessageRepeated);
            times = 2;
        }
        let topic = Topic {
            gateway: self.gateways[gateway].id(),
            kind,
        };
        for _ in 0..times {
            for _ in 0..self.collector.handle_message(&topic, payload.clone()) {
                self.faults.note(Fault::BrokerOverrun);
            }
        }
        let delay = self.chance.millis(0, 6);
        self.schedule_turn(delay);
    }

    pub(super) fn send_down(&mut self, topic: Topic, payload: Vec<u8>) {
        let number = self
            .gateways
            .iter()
            .position(|gateway| gateway.id() == topic.gateway);
        let odds = if self.is_calm { 0 } else { self.weather.network };
        if self.chance.one_in(odds) {
            self.faults.note(Fault::MessageLost);
            return;
        }
        // The commit took its time too.
        let on_the_way = self.chance.millis(2, 30);
        let now = self.now;
        let mut sessions = self.sessions.iter_mut().rev();
        let session = sessions.find(|(_, s)| Some(s.gateway) == number && s.is_up && s.is_subscribed);
        if let Some((&session, state)) = session {
            let at = state.free[1].max(now) + on_the_way;
            state.free[1] = at;
            let (kind, payload) = (topic.kind, payload.into());
            self.at(
                at,
                Event::Downlink {
                    session,
                    kind,
                    payload,
                },
            );
        }
    }
}
