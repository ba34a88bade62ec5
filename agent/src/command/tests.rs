//! Commands between a signing collector, a disk and a node that are played by hand.

use super::*;
use crate::enrolment::{Endpoint, Enrolment};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use trunnion_common::detection::multivariate::{self, Multivariate};
use trunnion_common::frame::{Calibration, ChannelPlan};
use trunnion_common::id::{BootId, ChannelId, GatewayId, Name};
use trunnion_common::level::Persistence;
use trunnion_common::message::{BackfillOrder, MESSAGE_MAX, signed_parts};
use trunnion_common::watch::{PlainWatch, Watch};

const NAME: &str = "collector.plant";
const UTC: EventTime = EventTime(1_800_000_000_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate's key and what proves it.
struct Signer {
    certificate: Vec<u8>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, edit: impl FnOnce(&mut CertificateParams)) -> Signer {
        self.issue_with(&rcgen::PKCS_ECDSA_P256_SHA256, edit)
    }

    fn issue_with(
        &self,
        kind: &'static SignatureAlgorithm,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Signer {
        let key = KeyPair::generate_for(kind).unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        edit(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Signer {
            certificate: certificate.der().to_vec(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }
}

impl Signer {
    /// A command to `gateway`, signed; `edit` spoils it.
    fn sign(
        &self,
        gateway: &GatewayId,
        command: &[u8],
        edit: impl FnOnce(&mut SignedCommand<'_>),
    ) -> Vec<u8> {
        use rustls::SignatureScheme::{ECDSA_NISTP256_SHA256, ECDSA_NISTP384_SHA384, ED25519};
        let key = rustls::crypto::ring::sign::any_supported_type(&self.key).unwrap();
        let signer = key
            .choose_scheme(&[ECDSA_NISTP256_SHA256, ECDSA_NISTP384_SHA384, ED25519])
            .unwrap();
        let signature = signer.sign(&signed_parts(gateway, command).concat()).unwrap();
        let mut signed = SignedCommand {
            command,
            scheme: signer.scheme().into(),
            signature: &signature,
            chain: heapless::Vec::from_slice(&[&self.certificate[..]]).unwrap(),
        };
        edit(&mut signed);
        let mut room = vec![0; MESSAGE_MAX];
        message::encode(&signed, &mut room).unwrap().to_vec()
    }
}

fn gateway(name: &str) -> GatewayId {
    GatewayId {
        site: Name::new("plant").unwrap(),
        gateway: Name::new(name).unwrap(),
    }
}

fn enrolment(authority: &Authority) -> Enrolment {
    Enrolment {
        gateway: gateway("gw-1"),
        endpoints: vec![Endpoint {
            host: "localhost".into(),
            port: 1,
            server_name: NAME.try_into().unwrap(),
        }],
        ca: vec![authority.0.der().clone()],
        certificate: Vec::new(),
        key: Arc::new(PrivatePkcs8KeyDer::from(Vec::new()).into()),
    }
}

fn node() -> NodeId {
    NodeId::new(7).unwrap()
}

fn boot(counter: u32) -> BootKey {
    (node(), BootId::new(counter, 1))
}

fn settings() -> Action {
    Action::Settings {
        node: node(),
        plans: heapless::Vec::from_slice(&[ChannelPlan::Off]).unwrap(),
    }
}

fn calibrate() -> Action {
    Action::Calibrate {
        node: node(),
        channel: ChannelId::new(0).unwrap(),
        calibration: Calibration {
            gain_ppm: 1_020_408,
            offset_milli: 0,
        },
    }
}

fn identify() -> Action {
    Action::Identify {
        node: node(),
        seconds: 3,
    }
}

/// A gateway's commands, with the disk that keeps its record and the node on its line.
struct World {
    authority: Authority,
    signer: Signer,
    commands: Commands,
    disk: Record,
    disk_is_full: bool,
    mono: Duration,
    utc: EventTime,
    /// The boot of the node that is on the line.
    present: Option<BootKey>,
    sent: Vec<Payload<'static>>,
    answers: Vec<(u64, CommandOutcome, u64)>,
    configured: Vec<GatewaySettings>,
    watched: Plan,
    searched: Searches,
    examined: Examinations,
    followed: Unusuals,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new();
        Self {
            signer: authority.issue(|_| {}),
            commands: Commands::new(&enrolment(&authority)),
            authority,
            disk: Record::default(),
            disk_is_full: false,
            mono: Duration::ZERO,
            utc: UTC,
            present: Some(boot(1)),
            sent: Vec::new(),
            answers: Vec::new(),
            configured: Vec::new(),
            watched: Plan::new(),
            searched: Searches::new(),
            examined: Examinations::new(),
            followed: Unusuals::new(),
        }
    }

    fn now(&self) -> Now {
        Now {
            mono: self.mono,
            utc: self.utc,
        }
    }

    /// Whether anything was to be done.
    fn step(&mut self) -> bool {
        let present = self.present;
        let Some(effect) = self.commands.poll(self.mono, |node| {
            present.filter(|key| key.0 == node).map(|key| (0, key))
        }) else {
            return false;
        };
        match effect {
            Effect::Keep(record) => {
                if !self.disk_is_full {
                    self.disk = record;
                }
                self.commands.handle_kept(!self.disk_is_full, self.mono);
            }
            Effect::Send(_, payload) => self.sent.push(payload),
            Effect::Answer(result) => self.answers.push((result.number, result.outcome, result.highest)),
            Effect::Configure(settings) => self.configured.push(settings),
            Effect::Follow(unusuals) => self.followed = unusuals,
            Effect::Watch(plan, searches, examinations) => {
                (self.watched, self.searched, self.examined) = (plan, searches, examinations);
            }
        }
        true
    }

    fn pump(&mut self) {
        while self.step() {}
    }

    fn pass(&mut self, time: Duration) {
        let end = self.mono + time;
        while let Some(due) = self.commands.next_timeout().filter(|due| *due <= end) {
            self.mono = self.mono.max(due);
            self.pump();
        }
        self.mono = end;
    }

    fn message(&self, number: u64, action: Action) -> Vec<u8> {
        let expires = EventTime(UTC.0 + 60_000_000_000);
        let command = postcard::to_extend(
            &Command {
                number,
                expires,
                action,
            },
            Vec::new(),
        );
        self.signer.sign(&gateway("gw-1"), &command.unwrap(), |_| {})
    }

    fn order(&mut self, number: u64, action: Action) {
        let message = self.message(number, action);
        self.commands.handle_message(&message, self.now()).unwrap();
        self.pump();
    }

    fn answer_as_node(&mut self, command: u32, outcome: SettingsOutcome) {
        let key = self.present.unwrap();
        self.commands
            .handle_result(key, &SettingsResult { command, outcome });
        self.pump();
    }

    /// The agent is killed, and another goes on from the disk.
    fn restart(&mut self) {
        self.commands = Commands::new(&enrolment(&self.authority));
        self.commands.restore(self.disk.clone());
        self.pump();
    }

    fn refusal(&self, message: &[u8]) -> &'static str {
        let mut commands = Commands::new(&enrolment(&self.authority));
        let refused = commands.handle_message(message, self.now());
        let is_idle = commands.effects.is_empty() && commands.phase == Phase::Idle;
        assert_eq!(
            is_idle,
            refused.is_err(),
            "what is refused so has no effect at all"
        );
        refused.map_or_else(|refused| refused.label(), |()| "accepted")
    }
}

fn bytes(action: Action) -> Vec<u8> {
    let expires = EventTime(UTC.0 + 60_000_000_000);
    let command = Command {
        number: 1,
        expires,
        action,
    };
    postcard::to_extend(&command, Vec::new()).unwrap()
}

#[test]
fn what_is_not_the_collectors_is_refused_under_a_reason() {
    let world = World::new();
    let (here, command) = (gateway("gw-1"), bytes(settings()));
    let stranger = Authority::new().issue(|_| {});
    let utc =
        |days: i64| time::OffsetDateTime::from_unix_timestamp(UTC.0 / 1_000_000_000 + days * 86_400).unwrap();
    let expired = world.authority.issue(|params| params.not_after = utc(-1));
    let early = world.authority.issue(|params| params.not_before = utc(1));
    let other_name = world.authority.issue(|params| {
        params.subject_alt_names = CertificateParams::new(["collector.other".to_owned()])
            .unwrap()
            .subject_alt_names;
    });
    let client = world
        .authority
        .issue(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let sign = |signer: &Signer| signer.sign(&here, &command, |_| {});
    let spoil =
        |edit: &dyn Fn(&mut SignedCommand<'_>)| world.signer.sign(&here, &command, |signed| edit(signed));

    let check = |message: Vec<u8>, expected: &str| assert_eq!(world.refusal(&message), expected);
    check(spoil(&|signed| signed.signature = &[]), "unsigned");
    check(spoil(&|signed| signed.chain.clear()), "unsigned");
    check(spoil(&|signed| signed.signature = &[1; 70]), "signature");
    check(spoil(&|signed| signed.command = &[2, 0, 1]), "signature");
    check(spoil(&|signed| signed.scheme = 0xFEFE), "signature_scheme");
    check(sign(&stranger), "foreign_authority");
    check(sign(&other_name), "foreign_name");
    check(sign(&expired), "certificate_time");
    check(sign(&early), "certificate_time");
    check(sign(&client), "certificate");
    check(world.signer.sign(&gateway("gw-2"), &command, |_| {}), "signature");
    check(world.signer.sign(&here, &[0x80], |_| {}), "message_decode");
    check(vec![9], "message_version");
    check(Vec::new(), "too_short");
    check(sign(&world.signer), "accepted");
}

#[test]
fn a_flipped_bit_anywhere_is_not_carried_out() {
    let world = World::new();
    let message = world.message(1, settings());
    for at in 0..message.len() {
        let mut flipped = message.clone();
        flipped[at] ^= 1 << (at % 8);
        // A certificate's own signature covers it; a few bits of the message say nothing (a length
        // written longer than it needs to be), but then the command is what was signed.
        let mut commands = Commands::new(&enrolment(&world.authority));
        if commands.handle_message(&flipped, world.now()).is_ok() {
            assert_eq!(
                commands.phase,
                Phase::Beginning(postcard::from_bytes(&bytes(settings())).unwrap())
            );
        }
    }
}

#[test]
fn every_kind_of_key_that_signs_handshakes_signs_commands() {
    let world = World::new();
    for kind in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let signer = world.authority.issue_with(kind, |_| {});
        let message = signer.sign(&gateway("gw-1"), &bytes(settings()), |_| {});
        assert_eq!(world.refusal(&message), "accepted");
    }
}

#[test]
fn settings_reach_the_node_and_its_answer_the_collector() {
    let mut world = World::new();
    world.order(1, settings());
    let [Payload::Settings(sent)] = &world.sent[..] else {
        panic!("{:?}", world.sent);
    };
    assert_eq!((sent.command, &sent.plans[..]), (1, &[ChannelPlan::Off][..]));
    world.answer_as_node(1, SettingsOutcome::Applied);
    assert_eq!(world.answers, [(1, CommandOutcome::Done, 1)]);

    world.order(2, settings());
    world.answer_as_node(1, SettingsOutcome::Applied);
    assert_eq!(
        world.answers.len(),
        1,
        "an answer to another number is none to this one"
    );
    world.answer_as_node(2, SettingsOutcome::LineTooSlow);
    let refused = CommandOutcome::RefusedByNode(SettingsOutcome::LineTooSlow);
    assert_eq!(world.answers[1..], [(2, refused, 2)]);
}

#[test]
fn nothing_is_done_before_it_is_on_disk_that_it_begins() {
    let mut world = World::new();
    let message = world.message(1, settings());
    world.commands.handle_message(&message, world.now()).unwrap();
    let effect = world.commands.poll(world.mono, |_| Some((0, boot(1))));
    assert!(matches!(effect, Some(Effect::Keep(record)) if record.highest == 1 && record.outcome.is_none()));
    assert_eq!(world.commands.poll(world.mono, |_| Some((0, boot(1)))), None);

    world.disk_is_full = true;
    world.commands.handle_kept(false, world.mono);
    world.pump();
    assert_eq!(world.answers, [(1, CommandOutcome::NotStored, 0)]);
    assert!(world.sent.is_empty());
    world.disk_is_full = false;
    world.order(1, settings());
    assert_eq!(
        world.sent.len(),
        1,
        "it was not begun, so the number is still good"
    );
}

#[test]
fn a_number_is_carried_out_once_however_often_it_comes() {
    let mut world = World::new();
    world.order(5, identify());
    world.order(5, identify());
    assert_eq!((world.sent.len(), world.answers.len()), (1, 0), "it is under way");
    world.answer_as_node(5, SettingsOutcome::Applied);
    world.order(5, identify());
    world.order(4, settings());
    world.restart();
    world.order(5, identify());
    world.order(0, identify());
    assert_eq!(world.sent.len(), 1);
    use CommandOutcome::{Done, Superseded};
    assert_eq!(
        world.answers,
        [
            (5, Done, 5),
            (5, Done, 5),
            (4, Superseded, 5),
            (5, Done, 5),
            (0, Superseded, 5)
        ]
    );
}

/// Kills the agent after every number of steps, and asks again: the node is told at most once by each
/// life of the agent, the second life tells it nothing, and the answer is true.
#[test]
fn at_whatever_step_the_agent_dies_a_capture_is_begun_at_most_once() {
    let capture = Action::Capture {
        node: node(),
        channel: trunnion_common::id::ChannelId::new(0).unwrap(),
        samples: 10,
    };
    let mut outcomes = Vec::new();
    for steps in 0..6 {
        let mut world = World::new();
        let message = world.message(1, capture.clone());
        world.commands.handle_message(&message, world.now()).unwrap();
        for _ in 0..steps {
            let before = world.sent.len();
            world.step();
            if world.sent.len() > before {
                let result = SettingsResult {
                    command: 1,
                    outcome: SettingsOutcome::Applied,
                };
                world.commands.handle_result(boot(1), &result);
            }
        }
        let told_before = world.sent.len();
        world.restart();
        world.order(1, capture.clone());
        world.pass(2 * PATIENCE);
        assert!(world.sent.len() == told_before || told_before == 0 && steps == 0);
        let (_, outcome, _) = *world.answers.last().unwrap();
        if outcome == CommandOutcome::Done {
            assert_eq!(world.sent.len(), 1);
        }
        outcomes.push(outcome);
    }
    use CommandOutcome::{Done, Interrupted, NoAnswer};
    assert_eq!(outcomes, [NoAnswer, Interrupted, Interrupted, Done, Done, Done]);
}

#[test]
fn a_command_that_was_held_back_too_long_is_not_begun() {
    let mut world = World::new();
    let message = world.message(1, settings());
    world.utc = EventTime(UTC.0 + 61_000_000_000);
    world.commands.handle_message(&message, world.now()).unwrap();
    world.pump();
    assert_eq!(world.answers, [(1, CommandOutcome::Expired, 0)]);
    assert!(world.sent.is_empty());
}

#[test]
fn a_node_that_is_not_there_or_says_nothing_is_given_up() {
    let mut world = World::new();
    world.present = None;
    world.order(1, settings());
    world.pass(2 * PATIENCE);
    assert!(world.sent.is_empty());
    world.present = Some(boot(1));
    world.order(2, settings());
    world.pass(2 * PATIENCE);
    assert_eq!(world.sent.len() as u64, PATIENCE.as_secs(), "once a second");
    assert_eq!(
        world.answers,
        [
            (1, CommandOutcome::UnknownNode, 1),
            (2, CommandOutcome::NoAnswer, 2)
        ]
    );
}

#[test]
fn a_node_that_restarts_gets_its_settings_again_but_no_capture() {
    let mut world = World::new();
    world.order(1, settings());
    world.present = Some(boot(2));
    world.pass(SECOND);
    assert_eq!(world.sent.len(), 2);
    world.answer_as_node(1, SettingsOutcome::Unchanged);
    world.order(2, identify());
    world.present = Some(boot(3));
    world.pass(SECOND);
    assert_eq!(world.sent.len(), 3);
    // A calibration is a setting, too.
    world.order(3, calibrate());
    world.present = Some(boot(4));
    world.pass(SECOND);
    assert_eq!(world.sent.len(), 5);
    world.answer_as_node(3, SettingsOutcome::BadCalibration);
    let refused = CommandOutcome::RefusedByNode(SettingsOutcome::BadCalibration);
    assert_eq!(
        world.answers,
        [
            (1, CommandOutcome::Done, 1),
            (2, CommandOutcome::OtherBoot, 2),
            (3, refused, 3)
        ]
    );
}

#[test]
fn a_higher_number_takes_the_place_of_the_one_under_way() {
    let mut world = World::new();
    world.order(1, settings());
    world.order(2, identify());
    world.answer_as_node(1, SettingsOutcome::Applied);
    world.answer_as_node(2, SettingsOutcome::Applied);
    assert_eq!(world.answers, [(2, CommandOutcome::Done, 2)]);
}

#[test]
fn what_the_gateway_itself_is_told_outlives_a_restart() {
    let mut world = World::new();
    let faster = GatewaySettings {
        heartbeat_interval_ms: Some(2_000),
        backfill_order: Some(BackfillOrder::NewestFirst),
        ..GatewaySettings::default()
    };
    world.order(1, Action::Gateway(faster));
    assert_eq!(
        (&world.configured[..], world.disk.settings),
        (&[faster][..], faster)
    );
    world.restart();
    assert_eq!(world.configured, [faster, faster]);
    world.order(
        2,
        Action::Gateway(GatewaySettings {
            live_share_percent: Some(100),
            ..GatewaySettings::default()
        }),
    );
    world.order(3, Action::Gateway(GatewaySettings::default()));
    assert_eq!(world.configured[2..], [GatewaySettings::default()]);
    use CommandOutcome::{Done, Unsupported};
    assert_eq!(world.answers, [(1, Done, 1), (2, Unsupported, 1), (3, Done, 3)]);
}

#[test]
fn an_action_of_a_later_collector_is_answered_as_unsupported() {
    let mut world = World::new();
    // Number 1, some time, action 250.
    let mut command = postcard::to_extend(&(1u64, EventTime(i64::MAX)), Vec::new()).unwrap();
    command.extend([250, 1, 2]);
    let message = world.signer.sign(&gateway("gw-1"), &command, |_| {});
    world.commands.handle_message(&message, world.now()).unwrap();
    world.pump();
    assert_eq!(world.answers, [(1, CommandOutcome::Unsupported, 0)]);
}

fn watch(node: u64, watch: Option<Watch>) -> Action {
    Action::Watch {
        node: NodeId::new(node).unwrap(),
        channel: ChannelId::new(0).unwrap(),
        watch,
    }
}

fn any_watch() -> Watch {
    Watch {
        settings: trunnion_common::monitor::Settings::default(),
        gain: 1.0,
        speed_hz: Some(25.0),
        baselines: Default::default(),
        operation: Default::default(),
        slow: None,
    }
}

#[test]
fn what_is_to_be_watched_here_holds_through_restarts_until_it_is_taken_back() {
    let mut world = World::new();
    world.order(1, watch(7, Some(any_watch())));
    world.order(2, watch(8, Some(any_watch())));
    assert_eq!(
        world.answers,
        [(1, CommandOutcome::Done, 1), (2, CommandOutcome::Done, 2)]
    );
    world.watched.clear();
    world.restart();
    assert_eq!(world.watched.len(), 2);
    assert!(world.watched.values().all(|watch| *watch == any_watch()));
    world.order(3, watch(7, None));
    assert_eq!(world.watched.keys().next().unwrap().0.get(), 8);
    assert_eq!(world.disk.watches, world.watched);
}

#[test]
fn for_what_a_channel_is_searched_holds_through_restarts_until_it_is_taken_back() {
    let mut world = World::new();
    let name = (NodeId::new(7).unwrap(), ChannelId::new(0).unwrap());
    let order = |search: Option<&BearingSearch>| Action::Search {
        node: name.0,
        channel: name.1,
        search: search.cloned(),
    };
    let search = BearingSearch {
        speed_tolerance: 0.005,
        bearing: [3.585, 5.415, 4.713, 0.398],
        neighbours: Default::default(),
        band_high_hz: 5_000.0,
    };
    world.order(1, order(Some(&search)));
    let wanted = Searches::from([(name, search.clone())]);
    assert_eq!((&world.searched, &world.disk.searches), (&wanted, &wanted));
    world.searched.clear();
    world.restart();
    assert_eq!(world.searched, wanted);
    for number in [f64::NAN, 0.0, f64::INFINITY] {
        let senseless = BearingSearch {
            band_high_hz: number,
            ..search.clone()
        };
        world.order(2, order(Some(&senseless)));
        assert_eq!(world.answers.pop().unwrap().1, CommandOutcome::Unsupported);
    }
    world.order(2, order(None));
    assert!(world.searched.is_empty() && world.disk.searches.is_empty());
}

#[test]
fn what_is_looked_for_in_spectra_holds_through_restarts_until_it_is_taken_back() {
    let mut world = World::new();
    let name = (NodeId::new(7).unwrap(), ChannelId::new(0).unwrap());
    let order = |spectra: Option<&SpectrumWatch>| Action::Examine {
        node: name.0,
        channel: name.1,
        spectra: spectra.cloned(),
    };
    let band = |low, high| WatchedBand {
        band: Band::Orders { low, high },
        velocity: true,
    };
    let spectra = SpectrumWatch {
        teeth: Some(23),
        blades: None,
        line_hz: Some(50.0),
        axial: false,
        band_hz: [1.0, 5_000.0],
        envelope_hz: None,
        bands: [band(5.5, 7.5)].into_iter().collect(),
    };
    world.order(1, order(Some(&spectra)));
    let wanted = Examinations::from([(name, spectra.clone())]);
    assert_eq!((&world.examined, &world.disk.examinations), (&wanted, &wanted));
    world.examined.clear();
    world.restart();
    assert_eq!(world.examined, wanted);
    let senseless = [
        SpectrumWatch {
            band_hz: [1.0, f64::NAN],
            ..spectra.clone()
        },
        SpectrumWatch {
            line_hz: Some(0.0),
            ..spectra.clone()
        },
        SpectrumWatch {
            bands: [band(7.5, 5.5)].into_iter().collect(),
            ..spectra.clone()
        },
    ];
    for senseless in &senseless {
        world.order(2, order(Some(senseless)));
        assert_eq!(world.answers.pop().unwrap().1, CommandOutcome::Unsupported);
    }
    world.order(2, order(None));
    assert!(world.examined.is_empty() && world.disk.examinations.is_empty());
}

#[test]
fn whether_slow_channels_are_as_they_were_is_judged_through_restarts_until_that_is_taken_back() {
    let mut world = World::new();
    let name = (NodeId::new(7).unwrap(), ChannelId::new(0).unwrap());
    let other = (NodeId::new(8).unwrap(), ChannelId::new(3).unwrap());
    let order = |unusual: Option<&UnusualWatch>| Action::Unusual {
        node: name.0,
        channel: name.1,
        unusual: unusual.cloned(),
    };
    let settings = multivariate::Settings {
        learning: 4,
        ..multivariate::Settings::default()
    };
    let mut detector: Multivariate = Multivariate::new(2, settings);
    for row in [[1.0, 2.0], [2.0, 4.0], [3.0, 5.0], [2.0, 3.0]] {
        detector.handle_row(UTC, &row);
    }
    let group = GroupWatch {
        channels: [name, other].into_iter().collect(),
        running: None,
        every_ns: 10_000_000_000,
        settings,
        persistence: Persistence::default(),
        generation: 0,
        learned: detector.learned().unwrap().clone(),
    };
    let unusual = |group: &GroupWatch| UnusualWatch {
        alone_ns: Some(300_000_000_000),
        group: Some(group.clone()),
    };
    world.order(1, order(Some(&unusual(&group))));
    let wanted = Unusuals::from([(name, unusual(&group))]);
    assert_eq!((&world.followed, &world.disk.unusuals), (&wanted, &wanted));
    world.followed.clear();
    world.restart();
    assert_eq!(world.followed, wanted);
    let senseless = [
        unusual(&GroupWatch {
            every_ns: 0,
            ..group.clone()
        }),
        unusual(&GroupWatch {
            channels: [name].into_iter().collect(),
            ..group.clone()
        }),
        UnusualWatch {
            alone_ns: Some(0),
            group: None,
        },
    ];
    for senseless in &senseless {
        world.order(2, order(Some(senseless)));
        assert_eq!(world.answers.pop().unwrap().1, CommandOutcome::Unsupported);
    }
    world.order(2, order(None));
    assert!(world.followed.is_empty() && world.disk.unusuals.is_empty());
}

#[test]
fn what_a_collector_of_before_wants_watched_is_watched() {
    let mut world = World::new();
    let Watch {
        settings,
        gain,
        speed_hz,
        baselines,
        ..
    } = any_watch();
    world.order(
        1,
        Action::WatchPlain {
            node: NodeId::new(7).unwrap(),
            channel: ChannelId::new(0).unwrap(),
            watch: Some(PlainWatch {
                settings,
                gain,
                speed_hz,
                baselines,
            }),
        },
    );
    assert_eq!(world.answers, [(1, CommandOutcome::Done, 1)]);
    assert_eq!(world.watched.values().next(), Some(&any_watch()));
}

#[test]
fn one_channel_more_than_can_be_watched_is_refused() {
    let mut world = World::new();
    let name = |node| (NodeId::new(node).unwrap(), ChannelId::new(0).unwrap());
    let most = (1..=WATCHES_MAX as u64).map(|node| (name(node), any_watch()));
    world.disk.watches = most.collect();
    world.restart();
    world.order(1, watch(WATCHES_MAX as u64 + 1, Some(any_watch())));
    assert_eq!(world.answers[0].1, CommandOutcome::Unsupported);
    world.order(1, watch(1, Some(any_watch())));
    assert_eq!(world.answers[1].1, CommandOutcome::Done);
}
