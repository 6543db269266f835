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

/// Seconds of an answer of `n` tokens, of which each drafted one comes with `chance` in 100, and without drafts.
fn answer(n: usize, chance: u64, costs: &Costs, wrong_by: f64) -> (f64, f64) {
    let mut drafter = Drafter::new(MOST_DRAFTED);
    // It says the same ten words again and again, so that there is always a match.
    let tokens: Vec<Token> = (0..40).map(|i| i % 10).collect();
    let (mut spent, mut said, mut random) = (0.0, 0, 1u64);
    while said < n {
        let drafted = drafter.draft(&tokens, 1, n, costs).len();
        let mut comes = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % 100 < chance
        };
        let accepted = (0..drafted).take_while(|_| comes()).count();
        let mut took = costs.of(1 + drafted).unwrap();
        if drafted > 0 {
            took *= wrong_by;
        }
        drafter.outcome(1, drafted, accepted, Duration::from_secs_f64(took), costs);
        spent += took;
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

/// As [`answer`], of a draft model that takes `each` ms for a token.
fn answer_by_model(n: usize, chance: u64, costs: &Costs, each: f64) -> (f64, f64) {
    let mut drafter = Drafter::new(MOST_DRAFTED);
    let (mut spent, mut said, mut random) = (0.0, 0, 1u64);
    while said < n {
        let drafted = drafter.of_model(1, n, costs, each / 1e3, each / 1e3, said);
        let mut comes = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % 100 < chance
        };
        let accepted = (0..drafted).take_while(|_| comes()).count();
        let drafting = Duration::from_secs_f64(drafted as f64 * each / 1e3);
        drafter.drafted_in(drafting);
        let took = Duration::from_secs_f64(costs.of(1 + drafted).unwrap());
        drafter.outcome(1, drafted, accepted, took, costs);
        spent += (drafting + took).as_secs_f64();
        said += 1 + accepted;
    }
    (spent, said as f64 * costs.of(1).unwrap())
}

#[test]
fn a_draft_model_gains_where_it_is_fast_and_right_and_costs_little_where_not() {
    let (with, without) = answer_by_model(300, 85, &costs(30, 2), 3.0);
    assert!(without / with > 1.7, "{with} {without}");
    for chance in [0, 10, 30, 50, 70, 90] {
        for more in [0, 4, 20, 30] {
            for each in [1.0, 5.0, 15.0, 30.0, 90.0] {
                let costs = costs(30, more);
                let (with, without) = answer_by_model(300, chance, &costs, each);
                assert!(
                    without / with > 0.97,
                    "{chance} %, {more} ms, {each} ms: {with} {without}"
                );
            }
        }
    }
}

#[test]
fn a_draft_model_reads_a_long_prompt_only_for_a_long_answer() {
    let costs = costs(30, 2);
    let n = |said| Drafter::new(9).of_model(1, 99, &costs, 0.003, 1.0, said);
    assert_eq!(n(10), 0);
    assert!(n(400) > 0);
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
    assert_eq!(Drafter::new(3).draft(&tokens, 1, 9, &costs), [0, 1, 2]);
    assert_eq!(Drafter::new(9).draft(&tokens, 1, 2, &costs), [0, 1]);
    assert!(Drafter::new(0).draft(&tokens, 1, 9, &costs).is_empty());
    assert!(Drafter::new(9).draft(&tokens, 1, 0, &costs).is_empty());
    assert_eq!(Drafter::new(99).draft(&tokens, 16, 99, &costs).len(), 0);
}
