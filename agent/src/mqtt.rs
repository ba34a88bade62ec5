//! One MQTT connection to a collector: a shell around rumqttc.
//!
//! Sessions are clean and every connection has an event loop of its own, because rumqttc drops what it
//! held when a session does not resume; what must be sent again is the publisher's to know. The event
//! loop is polled by a task that does nothing else and is never cancelled between two polls, and
//! nothing is published from that task: rumqttc would wait for itself.

use crate::enrolment::{Endpoint, Enrolment};
use crate::tls::{TlsClock, TlsError, client_config};
use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use trunnion_common::block::{BODY_MAX, ENVELOPE_BYTES};
use trunnion_common::id::GatewayId;
use trunnion_common::topic::{Kind, TOPIC_MAX, Topic};

/// Largest packet either way: the largest block, its topic and MQTT's own few bytes.
const PACKET_MAX: usize = BODY_MAX + ENVELOPE_BYTES + TOPIC_MAX + 16;

/// Messages that may wait for the event loop; the publisher keeps far fewer under way.
const QUEUE_MAX: usize = 256;

/// Messages without PUBACK.
const UNCONFIRMED_MAX: u16 = 64;

/// A silent connection is noticed after one and a half of these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

const CONNECT_TIMEOUT_S: u64 = 10;

/// What happened on a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MqttEvent {
    /// The collector has accepted us.
    Connected,
    /// All downlink topics are subscribed.
    Subscribed,
    /// A downlink message.
    Message(Kind, Bytes),
    /// It is over, because ...; nothing follows.
    Disconnected(String),
}

/// A connection being made or in use.
#[derive(Debug)]
pub struct Connection {
    client: AsyncClient,
    gateway: GatewayId,
    task: JoinHandle<()>,
}

impl Connection {
    /// Starts to connect; `report` is told everything that happens from here on and is awaited.
    pub fn start<R, F>(
        enrolment: &Enrolment,
        endpoint: &Endpoint,
        clock: &TlsClock,
        will: Vec<u8>,
        report: R,
    ) -> Result<Self, TlsError>
    where
        R: Fn(MqttEvent) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let gateway = enrolment.gateway.clone();
        let mut options = MqttOptions::new(client_id(&gateway), &endpoint.host, endpoint.port);
        let tls = client_config(enrolment, endpoint, clock)?;
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(
                tls,
            ))))
            .set_clean_session(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_max_packet_size(PACKET_MAX, PACKET_MAX)
            .set_inflight(UNCONFIRMED_MAX)
            .set_last_will(LastWill::new(
                topic(&gateway, Kind::Status),
                will,
                QoS::AtLeastOnce,
                false,
            ));
        let (client, mut event_loop) = AsyncClient::new(options, QUEUE_MAX);
        event_loop.network_options.set_tcp_nodelay(true);
        event_loop
            .network_options
            .set_connection_timeout(CONNECT_TIMEOUT_S);
        let task = tokio::spawn(poll(event_loop, report));
        Ok(Self {
            client,
            gateway,
            task,
        })
    }

    /// Asks for the downlink topics; whether the request was taken.
    pub fn subscribe(&self) -> bool {
        let filters = [Kind::Ack, Kind::Reject, Kind::Command]
            .map(|kind| SubscribeFilter::new(topic(&self.gateway, kind), QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters).is_ok()
    }

    /// Sends a message; whether it was taken. Never waits.
    pub fn publish(&self, kind: Kind, payload: Bytes) -> bool {
        let topic = topic(&self.gateway, kind);
        self.client
            .try_publish(topic, QoS::AtLeastOnce, false, payload)
            .is_ok()
    }

    /// Says goodbye and waits for the end of the connection, no longer than `patience`.
    pub async fn close(mut self, patience: Duration) {
        if self.client.try_disconnect().is_ok() {
            // The task ends by itself when the connection does; a peer that does not close is left.
            let _ = tokio::time::timeout(patience, &mut self.task).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The MQTT client id that a gateway must use.
pub fn client_id(gateway: &GatewayId) -> String {
    format!("trunnion-{}-{}", gateway.site, gateway.gateway)
}

fn topic(gateway: &GatewayId, kind: Kind) -> String {
    let gateway = gateway.clone();
    Topic { gateway, kind }.to_string()
}

async fn poll<R, F>(mut event_loop: EventLoop, report: R)
where
    R: Fn(MqttEvent) -> F,
    F: Future<Output = ()>,
{
    loop {
        let event = match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => MqttEvent::Connected,
            Ok(Event::Incoming(Packet::SubAck(answer))) => {
                if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                    let refused = "the collector refused a subscription to this gateway's own topics";
                    report(MqttEvent::Disconnected(refused.to_owned())).await;
                    return;
                }
                MqttEvent::Subscribed
            }
            Ok(Event::Incoming(Packet::Publish(message))) => match Topic::parse(&message.topic) {
                Some(topic) => MqttEvent::Message(topic.kind, message.payload),
                None => continue,
            },
            Ok(Event::Outgoing(Outgoing::Disconnect)) => {
                report(MqttEvent::Disconnected("closed by this agent".to_owned())).await;
                return;
            }
            Ok(_) => continue,
            Err(error) => {
                report(MqttEvent::Disconnected(explain(&error))).await;
                return;
            }
        };
        report(event).await;
    }
}

/// An error with all its causes: "I/O" alone helps nobody.
fn explain(error: &ConnectionError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            write!(text, ": {more}").expect("writing to a string does not fail");
        }
        cause = error.source();
    }
    text
}
