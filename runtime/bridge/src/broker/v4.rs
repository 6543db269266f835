//! MQTT 3.1.1, by `rumqttc`. See [`super`] for what comes in and out.

use std::sync::{Mutex, MutexGuard};

use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::mqttbytes::v4::{ConnectReturnCode, LastWill, Packet, SubscribeReasonCode};
use rumqttc_v4::{
    AckMode, AsyncClient, ConnectionError, Event, EventLoop, ManualAck, MqttOptions,
    PersistedAckMode, PersistedSession, PublishNoticeError, PublishOptions, SessionMode,
    SessionStore, SessionStoreKey, StateError, SubscribeFilterInput,
};

use super::{
    Ack, Connect, Happening, Lost, Message, NO_MQTT, NotPublished, Outgoing, Stored, dial::dial,
    in_words,
};

/// The largest packet taken, in bytes: MQTT's own limit. This version cannot tell the broker of a
/// smaller one, and a packet above it would end the connection, come again and end it again.
const MAX_PACKET_BYTES: usize = 256 * 1024 * 1024;

/// How many answers may be on their way to the broker unacknowledged.
const MAX_INFLIGHT: u16 = 100;

pub(super) fn connect(connect: &Connect) -> (AsyncClient, EventLoop) {
    let address = connect.broker.address;
    let mut options = MqttOptions::new(
        connect.client_id.clone(),
        (address.ip().to_string(), address.port()),
    );
    let broker = connect.broker.clone();
    options
        .set_socket_connector(move |_, _| dial(broker.clone(), MAX_PACKET_BYTES))
        .set_keep_alive(connect.wire.keep_alive)
        .set_session_mode(SessionMode::Persistent)
        .set_inflight(MAX_INFLIGHT)
        .set_session_store(Session {
            client_id: connect.client_id.clone(),
            saved: Mutex::default(),
        })
        .set_ack_mode(AckMode::Manual)
        .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES)
        .set_last_will(LastWill::new(
            connect.status_topic.clone(),
            "offline",
            QoS::AtLeastOnce,
            true,
        ));
    if let Some((user, password)) = &connect.login {
        options.set_credentials(user.clone(), password.clone());
    }
    AsyncClient::builder(options).unbounded().build()
}

pub(super) async fn poll(events: &mut EventLoop, client: &AsyncClient) -> Result<Happening, Lost> {
    match events.poll().await {
        Ok(Event::Incoming(Packet::ConnAck(_))) => Ok(Happening::Connected {
            largest_packet: None,
        }),
        Ok(Event::Incoming(Packet::Publish(publish))) => {
            let packet = (publish.pkid != 0).then_some((publish.pkid, publish.dup));
            let ack = client.prepare_ack(&publish).map(Ack::V4);
            let message = Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload,
                packet,
                retained: publish.retain,
                content_type: None,
                user_properties: Vec::new(),
                response_topic: None,
                correlation: None,
                expiry_seconds: None,
            };
            Ok(Happening::Message(Box::new(message), ack))
        }
        Ok(_) => Ok(Happening::Other),
        Err(ConnectionError::RequestsDone) => Err(Lost::Ended),
        Err(ConnectionError::ConnectionRefused(
            code @ (ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized),
        )) => Err(Lost::Refused(in_words(&code))),
        Err(ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion)) => {
            Err(Lost::Obstructed(
                "it does not speak MQTT 3.1.1; leave --mqtt-version out, for MQTT 5".into(),
            ))
        }
        Err(ConnectionError::ConnectionRefused(code)) => Err(Lost::Failed(format!(
            "it does not take the connection: {}",
            in_words(&code)
        ))),
        // What came instead may be somebody's message.
        Err(ConnectionError::NotConnAck(_)) => Err(Lost::Failed(NO_MQTT.into())),
        Err(ConnectionError::MqttState(StateError::ConnectionAborted)) => Err(Lost::Closed),
        // It does not name what it holds as its source.
        Err(ConnectionError::MqttState(StateError::Deserialization(error))) => {
            Err(Lost::by(&error))
        }
        Err(error) => Err(Lost::by(&error)),
    }
}

/// Why the broker keeps each of these from us, where it does.
pub(super) async fn subscribe(
    client: &AsyncClient,
    filters: &[String],
) -> Result<Vec<Option<String>>, String> {
    let filters = filters
        .iter()
        .map(|filter| SubscribeFilterInput::new(filter, QoS::AtLeastOnce));
    let notice = client
        .subscribe_many_tracked(filters)
        .await
        .map_err(|error| error.to_string())?;
    let answer = notice
        .wait_async()
        .await
        .map_err(|error| error.to_string())?;
    let reasons = answer.return_codes.iter().map(|reason| match reason {
        SubscribeReasonCode::Success(_) => None,
        reason => Some(in_words(reason)),
    });
    Ok(reasons.collect())
}

pub(super) async fn unsubscribe(client: &AsyncClient, filters: &[String]) -> Result<(), String> {
    let notice = client
        .unsubscribe_many_tracked(filters)
        .await
        .map_err(|error| error.to_string())?;
    notice
        .wait_completion_async()
        .await
        .map_err(|error| error.to_string())
}

pub(super) async fn publish(client: &AsyncClient, outgoing: &Outgoing) -> Result<(), NotPublished> {
    let notice = client
        .publish_tracked(
            outgoing.target.topic.clone(),
            outgoing.payload.clone(),
            options(outgoing, QoS::AtLeastOnce),
        )
        .await
        .map_err(|_| NotPublished::Ended)?;
    notice
        .wait_completion_async()
        .await
        .map_err(|error| match error {
            PublishNoticeError::SessionReset | PublishNoticeError::Recv => NotPublished::Lost,
            error => NotPublished::Rejected(error.to_string()),
        })
}

pub(super) fn offer(client: &AsyncClient, outgoing: &Outgoing) {
    // Refused only when the event loop is gone, at the end of the process.
    let _ = client.try_publish(
        outgoing.target.topic.clone(),
        outgoing.payload.clone(),
        options(outgoing, QoS::AtMostOnce),
    );
}

fn options(outgoing: &Outgoing, qos: QoS) -> PublishOptions {
    PublishOptions::new(qos).retain(outgoing.retain)
}

pub(super) fn acknowledge(client: &AsyncClient, ack: ManualAck) {
    // As above.
    let _ = client.try_manual_ack(ack);
}

/// The client's side of the session, in memory only. A new process starts with an empty one: with
/// QoS 1 alone, that is a valid session in which nothing of ours is under way, and the broker may
/// hand over the asks that it kept meanwhile.
#[derive(Debug)]
struct Session {
    client_id: String,
    saved: Mutex<Option<PersistedSession>>,
}

impl Session {
    fn saved(&self) -> MutexGuard<'_, Option<PersistedSession>> {
        self.saved
            .lock()
            .expect("no code panics while it holds the session")
    }

    fn empty(&self) -> PersistedSession {
        PersistedSession {
            format_version: 1,
            client_id: self.client_id.clone(),
            clean_session: false,
            max_inflight: MAX_INFLIGHT,
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        }
    }
}

impl SessionStore for Session {
    fn load<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, Option<PersistedSession>> {
        let session = self.saved().clone().unwrap_or_else(|| self.empty());
        Box::pin(std::future::ready(Ok(Some(session))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, session: &'a PersistedSession) -> Stored<'a, ()> {
        *self.saved() = Some(session.clone());
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, ()> {
        *self.saved() = None;
        Box::pin(std::future::ready(Ok(())))
    }
}
