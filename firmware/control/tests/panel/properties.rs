//! What holds whatever happens, and in whatever order.

use cloister_control::device::Fault;
use cloister_control::privacy;
use cloister_control::thermal::Throttle;
use cloister_control::units::Millis;
use cloister_control::{Engine, Phase, STARTS_WITHIN, Shown};
use proptest::prelude::*;

use crate::desk::{Desk, serving};

fn engines() -> impl Strategy<Value = Engine> {
    let phases = prop::sample::select(vec![
        Phase::Idle,
        Phase::Reading,
        Phase::Thinking,
        Phase::Answering,
    ]);
    prop_oneof![
        Just(Engine::Away),
        Just(Engine::Silent),
        Just(Engine::Loading),
        Just(Engine::Failed),
        (phases, any::<Option<bool>>()).prop_map(|(phase, private)| serving(phase, private)),
    ]
}

fn contacts() -> impl Strategy<Value = Option<Result<bool, Fault>>> {
    prop_oneof![
        8 => any::<bool>().prop_map(|closed| Some(Ok(closed))),
        1 => Just(Some(Err(Fault::Absent))),
    ]
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Engine(Engine),
    Button(Option<Result<bool, Fault>>),
    Switch(Option<Result<bool, Fault>>),
    Degrees(Result<f32, Fault>),
    Rpm(u32),
    Soc(Option<bool>),
    Slowed(Option<Throttle>),
    Nothing,
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let degrees = prop_oneof![4 => (20f32..90.0).prop_map(Ok), 1 => Just(Err(Fault::Bus)), 1 => Just(Ok(f32::NAN))];
    let event = prop_oneof![
        engines().prop_map(Event::Engine),
        contacts().prop_map(Event::Button),
        contacts().prop_map(Event::Switch),
        degrees.prop_map(Event::Degrees),
        prop::sample::select(vec![0, 3000]).prop_map(Event::Rpm),
        prop::sample::select(vec![None, Some(false), Some(true)]).prop_map(Event::Soc),
        prop::sample::select(vec![
            None,
            Some(Throttle::None),
            Some(Throttle::Half),
            Some(Throttle::Stop)
        ])
        .prop_map(Event::Slowed),
        Just(Event::Nothing),
    ];
    prop::collection::vec((prop_oneof![1u64..200, 200u64..200_000], event), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_inputs_leaves_the_light_lying(
        events in events(),
        on_die in any::<bool>(),
    ) {
        let mut desk = Desk::new();
        desk.on_die = on_die;
        for (span, event) in events {
            match event {
                Event::Engine(engine) => desk.engine = engine,
                Event::Button(contact) => desk.button = contact,
                Event::Switch(contact) => desk.switch = contact,
                Event::Degrees(degrees) => desk.degrees = degrees,
                Event::Rpm(rpm) => desk.rpm = rpm,
                Event::Soc(slows) => desk.soc_throttles = slows,
                Event::Slowed(slowed) => desk.slowed = slowed,
                Event::Nothing => {}
            }
            if desk.switch == Some(Ok(true)) {
                prop_assert_eq!(desk.step().private, Some(true), "at once");
            }
            let outputs = desk.after(Millis(span));
            let shown = outputs.shown;
            let (phase, private) = match desk.engine {
                Engine::Serving { phase, private, .. } => (Some(phase), private),
                _ => (None, None),
            };
            let well = [Shown::Ready, Shown::Reading, Shown::Thinking, Shown::Answering];
            let phases = [Phase::Idle, Phase::Reading, Phase::Thinking, Phase::Answering];
            if let Some(n) = well.iter().position(|of| *of == shown) {
                prop_assert_eq!((phase, private), (Some(phases[n]), Some(false)));
                prop_assert!(outputs.throttle < Throttle::Stop);
                prop_assert_ne!(desk.soc_throttles, Some(true));
                prop_assert!(desk.degrees.is_ok_and(|degrees| degrees < 72.0), "{:?}", desk.degrees);
                prop_assert!(matches!(desk.button, Some(Ok(_))) && matches!(desk.switch, Some(Ok(_))));
            }
            match shown {
                Shown::Private => prop_assert_eq!(private, Some(true)),
                Shown::Broken => prop_assert!(outputs.problems.any()),
                Shown::Starting => {
                    let unheard = phase.is_some() && private.is_none();
                    prop_assert!(unheard || matches!(desk.engine, Engine::Away | Engine::Loading));
                }
                Shown::TooHot => prop_assert!(outputs.throttle > Throttle::None),
                _ => {}
            }
            // What is not so for long is shown as broken.
            if span > privacy::WITHIN.0 && shown != Shown::ShuttingDown {
                if let Some(Ok(switch)) = desk.switch
                    && phase.is_some()
                    && private != Some(switch)
                {
                    prop_assert!(matches!(shown, Shown::Broken | Shown::TooHot), "{shown:?}");
                }
                if desk.degrees.is_ok_and(|degrees| degrees >= 78.0) && private != Some(true) {
                    prop_assert!(matches!(shown, Shown::TooHot | Shown::Broken), "{shown:?}");
                    prop_assert!(outputs.throttle >= Throttle::Half);
                }
            }
            if outputs.problems.throttle_ignored {
                prop_assert!(phase.is_some() && desk.slowed.is_some_and(|of| of != outputs.throttle));
            }
            if span > STARTS_WITHIN.0 && desk.engine == Engine::Away && shown != Shown::ShuttingDown {
                prop_assert!(matches!(shown, Shown::Broken | Shown::TooHot), "{shown:?}");
            }
        }
    }
}
