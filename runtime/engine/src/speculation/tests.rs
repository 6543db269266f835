use super::costs::FORGOTTEN;
use super::*;

const MS: Duration = Duration::from_millis(1);

fn costs(one: u32, more: u32) -> Costs {
    let mut costs = Costs::default();
    for n in 1..=MOST_DRAFTED + 1 {
        costs.measured(n, (one + more * (n as u32 - 1)) * MS);
    }
    costs
}

#[test]
fn the_longest_match_counts_and_of_equals_the_last() {
    assert_eq!(last_seen(&[1, 2, 3, 9, 2, 3, 8, 1, 2, 3]), Some((3, 3)));
    assert_eq!(last_seen(&[2, 3, 9, 2, 3, 8, 2, 3]), Some((5, 2)));
    assert_eq!(last_seen(&[5, 5, 5, 5]), Some((3, 3)));
    assert_eq!(last_seen(&[1, 2, 3, 1]), None);
    assert_eq!(last_seen(&[]), None);
}

#[test]
fn costs_that_were_not_measured_lie_between_those_that_were() {
    let mut costs = Costs::default();
    assert_eq!(costs.of(1), None);
    costs.measured(100, 200 * MS);
    costs.measured(1, 10 * MS);
    assert!((costs.of(4).unwrap() - 0.016).abs() < 1e-9);
    costs.measured(5, 30 * MS);
    assert!((costs.of(3).unwrap() - 0.02).abs() < 1e-9);
}

#[test]
fn a_measurement_that_was_disturbed_is_forgotten() {
    let mut costs = Costs::default();
    costs.measured(100, 200 * MS);
    costs.measured(2, 300 * MS);
    for _ in 0..FORGOTTEN + 1 {
        costs.measured(1, 10 * MS);
    }
    assert!((costs.of(2).unwrap() - 0.012).abs() < 1e-9);
}

/// Draws whether something with `chance` in 100 comes, by seed.
struct Dice(u64);

impl Dice {
    fn comes(&mut self, chance: u64) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1);
        (self.0 >> 33) % 100 < chance
    }
}

/// What can be drafted behind one token.
fn chance(room: usize, costs: &Costs) -> Chance<'_> {
    Chance {
        pending: 1,
        room,
        costs,
    }
}

/// What came of `drafted` tokens behind one other, `late` times as late as known.
fn outcome(drafted: usize, accepted: usize, costs: &Costs, late: f64) -> Outcome {
    let took = costs.of(1 + drafted).unwrap() * late;
    Outcome {
        pending: 1,
        drafted,
        accepted,
        took: Duration::from_secs_f64(took),
    }
}

/// Seconds of an answer of `n` tokens, of which each drafted one comes with `percent`, and without drafts.
fn answer(n: usize, percent: u64, costs: &Costs, wrong_by: f64) -> (f64, f64) {
    let mut drafter = Drafter::new(MOST_DRAFTED);
    // It says the same ten words again and again, so that there is always a match.
    let tokens: Vec<Token> = (0..40).map(|i| i % 10).collect();
    let (mut spent, mut said, mut dice) = (0.0, 0, Dice(1));
    while said < n {
        let drafted = drafter.look_up(&tokens, &chance(n, costs)).0.len();
        let accepted = (0..drafted).take_while(|_| dice.comes(percent)).count();
        let late = if drafted > 0 { wrong_by } else { 1.0 };
        let outcome = outcome(drafted, accepted, costs, late);
        drafter.outcome(&outcome, costs, None);
        spent += outcome.took.as_secs_f64();
        said += 1 + accepted;
    }
    (spent, said as f64 * costs.of(1).unwrap())
}

#[test]
fn drafts_that_come_are_long_and_those_that_do_not_cost_little() {
    let memory_bound = costs(30, 4);
    let (with, without) = answer(300, 98, &memory_bound, 1.0);
    assert!(without / with > 2.5, "{with} {without}");
    for chance in [0, 5, 10, 20, 30, 50, 70] {
        for more in [0, 4, 10, 20, 30] {
            let (with, without) = answer(300, chance, &costs(30, more), 1.0);
            assert!(
                without / with > 0.97,
                "{chance} % {more} ms: {with} {without}"
            );
        }
    }
}

/// As [`answer`], of a draft model that takes `each` ms for a token, with what is known of it.
fn answer_by_model(
    n: usize,
    percent: u64,
    costs: &Costs,
    each: f64,
    model: &mut ModelRecord,
) -> (f64, f64) {
    let mut drafter = Drafter::new(MOST_DRAFTED);
    let each = each / 1e3;
    let (mut spent, mut said, mut dice) = (0.0, 0, Dice(1));
    while said < n {
        let chance = chance(n, costs);
        let drafted = model
            .best(&chance, drafter.most(&chance), each, each, said)
            .n;
        let accepted = (0..drafted).take_while(|_| dice.comes(percent)).count();
        let drafting = Duration::from_secs_f64(drafted as f64 * each);
        model.drafted_in(drafting, costs);
        let outcome = outcome(drafted, accepted, costs, 1.0);
        drafter.outcome(&outcome, costs, Some(model));
        spent += (drafting + outcome.took).as_secs_f64();
        said += 1 + accepted;
    }
    (spent, said as f64 * costs.of(1).unwrap())
}

#[test]
fn a_draft_model_gains_where_it_is_fast_and_right_and_costs_little_where_not() {
    let fast = costs(30, 2);
    let (with, without) = answer_by_model(300, 85, &fast, 3.0, &mut ModelRecord::default());
    assert!(without / with > 1.7, "{with} {without}");
    for chance in [0, 10, 30, 50, 70, 90] {
        for more in [0, 4, 20, 30] {
            for each in [1.0, 5.0, 15.0, 30.0, 90.0] {
                let costs = costs(30, more);
                let mut model = ModelRecord::default();
                // Each answer is told what came of the ones before it.
                for nth in 1..=4 {
                    let (with, without) = answer_by_model(300, chance, &costs, each, &mut model);
                    assert!(
                        without / with > 0.97,
                        "{chance} %, {more} ms, {each} ms, {nth}: {with} {without}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_draft_model_reads_a_long_prompt_only_for_a_long_answer() {
    let costs = costs(30, 2);
    let n = |said| {
        ModelRecord::default()
            .best(&chance(99, &costs), 9, 0.003, 1.0, said)
            .n
    };
    assert_eq!(n(10), 0);
    assert!(n(400) > 0);
}

#[test]
fn drafts_from_the_text_that_were_wrong_are_not_held_against_a_draft_model() {
    let costs = costs(60, 8);
    let (mut drafter, mut model) = (Drafter::new(9), ModelRecord::default());
    let tokens: Vec<Token> = (0..40).map(|i| i % 10).collect();
    for _ in 0..30 {
        let drafted = drafter.look_up(&tokens, &chance(9, &costs)).0.len();
        drafter.outcome(&outcome(drafted, 0, &costs, 1.0), &costs, Some(&mut model));
    }
    assert!(model.best(&chance(9, &costs), 9, 0.02, 0.0, 30).n > 0);
}

#[test]
fn what_batches_are_thought_to_take_may_be_wrong() {
    let (with, without) = answer(300, 30, &costs(30, 1), 1.8);
    assert!(without / with > 0.97, "{with} {without}");
}

#[test]
fn no_more_is_drafted_than_may_be() {
    let tokens: Vec<Token> = (0..40).map(|i| i % 10).collect();
    let costs = costs(30, 0);
    let drafted = |most, room, pending| {
        let chance = Chance {
            pending,
            ..chance(room, &costs)
        };
        Drafter::new(most).look_up(&tokens, &chance).0.to_vec()
    };
    assert_eq!(drafted(3, 9, 1), [0, 1, 2]);
    assert_eq!(drafted(9, 2, 1), [0, 1]);
    assert!(drafted(0, 9, 1).is_empty());
    assert!(drafted(9, 0, 1).is_empty());
    assert!(drafted(99, 99, 16).is_empty());
}
