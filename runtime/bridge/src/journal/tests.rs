use std::time::Duration;

use super::*;
use crate::answers::tests::{intake, limits};

#[tokio::test]
async fn what_was_reported_is_there_after_an_end_without_warning() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, thread) = Journal::open(folder.path(), limits()).unwrap();
    journal
        .with(|answers| answers.take(&intake("a", "why"), 0))
        .await
        .unwrap();
    journal.end().await;
    thread.join().unwrap();
    let (journal, _thread) = Journal::open(folder.path(), limits()).unwrap();
    let turn = journal.with(Answers::next).await.unwrap().unwrap();
    assert_eq!(turn.id.to_string(), "a");
}

#[tokio::test]
async fn a_job_that_fails_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _thread) = Journal::open(folder.path(), limits()).unwrap();
    let bad = journal.with(|answers| answers.database().execute_batch("no such thing"));
    let good = journal.with(|answers| answers.take(&intake("a", "why"), 0));
    let (bad, good) = tokio::join!(bad, good);
    assert!(bad.is_err());
    assert!(good.is_ok());
    let counts = journal.with(|answers| Ok(answers.counts())).await.unwrap();
    assert_eq!(counts.unanswered, 1);
}

#[test]
fn one_journal_is_one_bridges() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Journal::open(folder.path(), limits()).unwrap();
    let error = Journal::open(folder.path(), limits()).err().unwrap();
    assert!(error.to_string().contains("another bridge"), "{error}");
}

#[test]
fn a_damaged_journal_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let error = Journal::open(folder.path(), limits()).err().unwrap();
    assert!(error.to_string().contains("journal.sqlite"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);
}

#[tokio::test]
async fn what_is_erased_is_on_the_disk_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _thread) = Journal::open(folder.path(), limits()).unwrap();
    let on_disk = |text: &str| {
        std::fs::read_dir(folder.path()).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        })
    };
    journal
        .with(|answers| answers.take(&intake("a", "the question"), 0))
        .await
        .unwrap();
    assert!(on_disk("the question"));
    journal
        .with(|answers| {
            answers.next()?;
            answers.finish(1, b"the answer", 0)?;
            for delivery in answers.due(9)? {
                answers.delivered(delivery.number, 0)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    assert!(on_disk("the answer"));
    let later = Duration::from_secs(61).as_millis() as Moment;
    let erased = journal
        .with(move |answers| answers.tidy(|_| "late".into(), later))
        .await
        .unwrap();
    assert!(erased);
    journal.erase().await;
    journal.with(|_| Ok(())).await.unwrap();
    assert!(!on_disk("the question"));
    assert!(!on_disk("the answer"));
    assert!(!on_disk("topic/of/a"), "where it went");
}

#[tokio::test]
async fn what_a_flood_took_of_the_disk_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _thread) = Journal::open(folder.path(), limits()).unwrap();
    let bytes_on_disk = || {
        let files = std::fs::read_dir(folder.path()).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    let long = "x".repeat(100_000);
    for n in 0..20 {
        let asked = intake(&n.to_string(), &long);
        journal
            .with(move |answers| answers.take(&asked, 0))
            .await
            .unwrap();
    }
    assert!(bytes_on_disk() > 2_000_000);
    journal
        .with(|answers| answers.cancel_all(|_| "cancelled".into(), 0))
        .await
        .unwrap();
    for _ in 0..5 {
        journal.erase().await;
        journal.with(|_| Ok(())).await.unwrap();
    }
    // The pages that are left hold what is known of the asks, and their log.
    assert!(bytes_on_disk() < 300_000, "{}", bytes_on_disk());
}
