//! The rules of [`super::Answers`], on a database in memory.

use serde_json::{Value, json};

use super::outgoing::Target;
use super::*;
use crate::answer::ErrorCode;

pub fn limits() -> Limits {
    Limits {
        unanswered: 100,
        keep: Duration::from_secs(60),
    }
}

fn id(name: &str) -> AskId {
    AskId::parse(name).unwrap()
}

fn to(topic: &str) -> Target {
    Target {
        topic: topic.into(),
        ..Target::default()
    }
}

pub fn intake(name: &str, prompt: &str) -> Intake {
    Intake {
        place: Place::Own,
        id: id(name),
        own_id: true,
        packet: None,
        retained: false,
        request: json!({ "prompt": prompt }),
        options: String::new(),
        deadline: None,
        targets: vec![to(&format!("topic/of/{name}"))],
    }
}

fn answers() -> Answers {
    Answers::of(open(std::path::Path::new(":memory:")).unwrap(), limits()).unwrap()
}

fn late(id: &AskId) -> Bytes {
    format!("late {id}").into()
}

/// Everything that is due, delivered.
fn deliver(answers: &mut Answers, now: Moment) -> Vec<(String, String)> {
    let due = answers.due(usize::MAX).unwrap();
    due.into_iter()
        .map(|delivery| {
            answers.delivered(delivery.number, now).unwrap();
            let payload = String::from_utf8(delivery.payload.to_vec()).unwrap();
            (delivery.target.topic, payload)
        })
        .collect()
}

fn pair(topic: &str, payload: &str) -> (String, String) {
    (topic.into(), payload.into())
}

#[test]
fn asks_get_their_turn_in_the_order_in_which_they_came() {
    let mut answers = answers();
    for name in ["c", "a", "b"] {
        assert_eq!(answers.take(&intake(name, "why"), 0), Ok(Taken::Waits));
    }
    let order: Vec<_> = std::iter::from_fn(|| answers.next().unwrap())
        .map(|turn| turn.id.to_string())
        .collect();
    assert_eq!(order, ["c", "a", "b"]);
    assert_eq!(answers.counts().running, 3);
}

#[test]
fn a_repeat_of_an_unanswered_ask_joins_it_and_both_targets_get_the_one_answer() {
    let mut answers = answers();
    answers.take(&intake("a", "why"), 0).unwrap();
    for topic in ["y", "topic/of/a"] {
        let again = Intake {
            targets: vec![to(topic)],
            ..intake("a", "why")
        };
        assert_eq!(answers.take(&again, 0), Ok(Taken::Joined));
    }
    assert_eq!(answers.due(9).unwrap(), []);
    answers.finish(1, b"42", 0).unwrap();
    assert_eq!(
        deliver(&mut answers, 0),
        [pair("topic/of/a", "42"), pair("y", "42")]
    );
}

#[test]
fn a_repeat_of_an_answered_ask_gets_the_same_answer_until_it_is_erased() {
    let mut answers = answers();
    answers.take(&intake("a", "why"), 0).unwrap();
    answers.finish(1, b"42", 0).unwrap();
    deliver(&mut answers, 1_000);
    assert!(!answers.tidy(late, 60_999).unwrap());
    assert_eq!(
        answers.take(&intake("a", "why"), 0),
        Ok(Taken::AnsweredAlready)
    );
    // While it is on its way, another repeat adds nothing.
    let due = answers.due(9).unwrap();
    answers.take(&intake("a", "why"), 0).unwrap();
    assert_eq!(answers.due(9).unwrap(), []);
    assert_eq!(due[0].payload, "42");
    answers.delivered(due[0].number, 60_999).unwrap();

    assert!(!answers.tidy(late, 61_000).unwrap(), "60 s after the last");
    assert!(answers.tidy(late, 120_999).unwrap());
    assert_eq!(
        answers.take(&intake("a", "why"), 0),
        Ok(Taken::Refused(ErrorCode::Answered))
    );
    let told = deliver(&mut answers, 121_000);
    assert!(told[0].1.contains("answered"), "{told:?}");

    // A day later nothing is known of it.
    answers.tidy(late, 120_999 + REMEMBERED_MS).unwrap();
    assert_eq!(answers.take(&intake("a", "why"), 0), Ok(Taken::Waits));
}

#[test]
fn an_undelivered_answer_is_never_erased() {
    let mut answers = answers();
    answers.take(&intake("a", "why"), 0).unwrap();
    answers.finish(1, b"42", 0).unwrap();
    assert!(!answers.tidy(late, REMEMBERED_MS).unwrap());
    assert_eq!(deliver(&mut answers, 0), [pair("topic/of/a", "42")]);
}

#[test]
fn another_request_under_an_id_in_use_is_known_as_another() {
    let mut answers = answers();
    answers.take(&intake("a", "why"), 0).unwrap();
    let other = Intake {
        targets: vec![to("y")],
        ..intake("a", "how")
    };
    let refused = Ok(Taken::Refused(ErrorCode::BadRequest));
    assert_eq!(answers.take(&other, 0), refused);
    assert_eq!(deliver(&mut answers, 0)[0].0, "y");
    answers.finish(1, b"42", 0).unwrap();
    assert_eq!(deliver(&mut answers, 0), [pair("topic/of/a", "42")]);
    assert_eq!(answers.take(&other, 0), refused);
}

#[test]
fn a_pools_ask_is_another_than_the_boxs_own_of_the_same_id() {
    let mut answers = answers();
    answers.take(&intake("a", "why"), 0).unwrap();
    let pools = Intake {
        place: Place::Pool("p".into()),
        ..intake("a", "how")
    };
    assert_eq!(answers.take(&pools, 0), Ok(Taken::Waits));
    answers.next().unwrap();
    assert_eq!(answers.next().unwrap().unwrap().place, pools.place);
}

#[test]
fn what_the_broker_sends_again_is_known_though_it_has_no_id() {
    let mut answers = answers();
    let unnamed = |name, packet| Intake {
        own_id: false,
        packet: Some(packet),
        ..intake(name, "why")
    };
    assert_eq!(answers.take(&unnamed("a", (7, false)), 0), Ok(Taken::Waits));
    for (name, packet, taken) in [
        ("b", (7, true), Taken::KnownAlready),
        ("c", (8, true), Taken::Waits),
        ("d", (7, false), Taken::Waits),
    ] {
        assert_eq!(answers.take(&unnamed(name, packet), 0), Ok(taken), "{name}");
    }
}

#[test]
fn what_the_broker_keeps_is_run_once() {
    let mut answers = answers();
    for own_id in [true, false] {
        let kept = |name: &str| Intake {
            own_id,
            retained: true,
            ..intake(name, if own_id { "why" } else { "how" })
        };
        let (first, again) = if own_id { ("a", "a") } else { ("b", "c") };
        assert_eq!(answers.take(&kept(first), 0), Ok(Taken::Waits));
        assert_eq!(answers.take(&kept(again), 0), Ok(Taken::KnownAlready));
        let turn = answers.next().unwrap().unwrap();
        answers.finish(turn.seq, b"42", 0).unwrap();
        deliver(&mut answers, 0);
        assert!(answers.tidy(late, 60_000).unwrap());
        assert_eq!(answers.take(&kept(again), 0), Ok(Taken::KnownAlready));
    }
}

#[test]
fn one_ask_too_many_is_told_when_to_come_again_until_another_ends() {
    let mut answers = answers();
    for n in 0..100 {
        answers.take(&intake(&n.to_string(), "why"), 0).unwrap();
    }
    let refused = answers.take(&intake("more", "why"), 0).unwrap();
    assert_eq!(refused, Taken::Refused(ErrorCode::Busy));
    let told: Value = serde_json::from_str(&deliver(&mut answers, 0)[0].1).unwrap();
    assert!(told["error"]["retry_after"].as_u64().unwrap() > 0, "{told}");
    answers.finish(1, b"42", 0).unwrap();
    assert_eq!(answers.take(&intake("more", "why"), 0), Ok(Taken::Waits));
    assert_eq!(answers.counts().unanswered, 100);
}

#[test]
fn a_cancel_ends_what_waits_and_reaches_what_runs_once() {
    let mut answers = answers();
    for name in ["a", "b"] {
        answers.take(&intake(name, "why"), 0).unwrap();
    }
    let mut turn = answers.next().unwrap().unwrap();
    let cancel = |answers: &mut Answers, name| {
        answers
            .cancel(&Place::Own, &id(name), b"cancelled", 0)
            .unwrap()
    };
    assert!(!cancel(&mut answers, "c"));
    assert!(cancel(&mut answers, "a"));
    assert_eq!(turn.interrupted.try_recv(), Ok(Interrupt::Cancelled));
    assert!(!cancel(&mut answers, "a"));
    assert_eq!(deliver(&mut answers, 0), []);
    assert!(cancel(&mut answers, "b"));
    assert_eq!(deliver(&mut answers, 0), [pair("topic/of/b", "cancelled")]);
    assert!(answers.next().unwrap().is_none(), "it is never run");
}

#[test]
fn all_can_be_cancelled_at_once() {
    let mut answers = answers();
    for n in 0..250 {
        answers.limits.unanswered = 1000;
        answers.take(&intake(&n.to_string(), "why"), 0).unwrap();
    }
    let mut running = answers.next().unwrap().unwrap();
    let ended = answers.cancel_all(|_| "cancelled".into(), 0).unwrap();
    assert_eq!(ended, 250);
    assert_eq!(running.interrupted.try_recv(), Ok(Interrupt::Cancelled));
    assert_eq!(deliver(&mut answers, 0).len(), 249);
    assert_eq!(answers.counts().unanswered, 1);
}

#[test]
fn what_expires_while_it_waits_is_told_so_and_never_run() {
    let mut answers = answers();
    let with_deadline = Intake {
        deadline: Some(500),
        ..intake("a", "why")
    };
    answers.take(&with_deadline, 0).unwrap();
    answers.tidy(late, 499).unwrap();
    assert_eq!(answers.due(9).unwrap(), []);
    answers.tidy(late, 500).unwrap();
    assert_eq!(deliver(&mut answers, 500), [pair("topic/of/a", "late a")]);
    assert!(answers.next().unwrap().is_none());
}

#[test]
fn how_often_the_engine_went_away_over_an_ask_outlives_the_bridge_and_ends_with_the_ask() {
    let folder = tempfile::tempdir().unwrap();
    let opened = || Answers::of(open(&folder.path().join("j")).unwrap(), limits()).unwrap();
    let mut before = opened();
    before.take(&intake("a", "why"), 0).unwrap();
    let seq = before.next().unwrap().unwrap().seq;
    assert_eq!(before.broken_off(seq), Ok(1));
    drop(before);
    let mut after = opened();
    let turn = after.next().unwrap().unwrap();
    assert_eq!((turn.seq, turn.broken_off), (seq, 1));
    assert_eq!(after.broken_off(seq), Ok(2));
    after.finish(seq, b"why not", 1).unwrap();
    assert_eq!(after.broken_off(seq), Ok(1), "nothing of it was kept");
}

#[test]
fn stopping_reaches_every_running_ask_and_leaves_it_unanswered() {
    let mut answers = answers();
    for name in ["a", "b"] {
        answers.take(&intake(name, "why"), 0).unwrap();
    }
    let mut turn = answers.next().unwrap().unwrap();
    answers.stop();
    assert_eq!(turn.interrupted.try_recv(), Ok(Interrupt::Stopping));
    assert_eq!(answers.counts().unanswered, 2);
}

#[test]
fn what_goes_with_an_answer_is_kept_as_it_came() {
    let mut answers = answers();
    let target = Target {
        topic: "t".into(),
        correlation: Some(Bytes::from_static(b"\x00\xff")),
        user_properties: vec![("room".into(), "attic".into()), ("room".into(), "".into())],
        bare: true,
    };
    let asked = Intake {
        targets: vec![target.clone()],
        ..intake("a", "why")
    };
    answers.take(&asked, 0).unwrap();
    answers.finish(1, b"42", 0).unwrap();
    assert_eq!(answers.due(9).unwrap()[0].target, target);
}

#[test]
fn a_clock_that_goes_back_keeps_no_text_for_longer() {
    let mut answers = answers();
    answers.take(&intake("a", "why"), 0).unwrap();
    answers.finish(1, b"42", 0).unwrap();
    deliver(&mut answers, 1_000_000_000);
    assert!(!answers.tidy(late, 1_000).unwrap());
    assert_eq!(
        answers.take(&intake("a", "why"), 1_000),
        Ok(Taken::AnsweredAlready),
        "nor for less"
    );
    deliver(&mut answers, 1_000);
    assert!(answers.tidy(late, 61_000).unwrap());
    // And its id is known as long as ever.
    answers.tidy(late, 500).unwrap();
    let answered = Ok(Taken::Refused(ErrorCode::Answered));
    assert_eq!(answers.take(&intake("a", "why"), 500), answered);
    answers.tidy(late, 500 + REMEMBERED_MS).unwrap();
    assert_eq!(
        answers.take(&intake("a", "why"), 0),
        Ok(Taken::Waits),
        "a day is a day"
    );
}

#[test]
fn a_refusal_that_nobody_is_told_is_not_kept() {
    let mut answers = answers();
    answers.limits.unanswered = 0;
    let bare = Target {
        bare: true,
        ..to("home/summary")
    };
    let of_a_recipe = Intake {
        targets: vec![bare],
        own_id: false,
        ..intake("a", "why")
    };
    let busy = Ok(Taken::Refused(ErrorCode::Busy));
    assert_eq!(answers.take(&of_a_recipe, 0), busy);
    let kept: i64 = answers
        .database()
        .query_row("SELECT count(*) FROM asks", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 0);
}
