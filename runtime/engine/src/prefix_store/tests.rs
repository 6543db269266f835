use super::*;

fn store(folder: &Path, max_bytes: u64, model: &str) -> PrefixStore {
    let path = folder.join("prefixes");
    PrefixStore::new(PrefixFolder { path, max_bytes }, Identity::of(&[model]))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("prefixes")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_longest_common_beginning_is_found_also_by_who_comes_later_and_by_who_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let (first, other) = (
        store(folder.path(), 1 << 20, "m"),
        store(folder.path(), 1 << 20, "m"),
    );
    assert!(first.longest(&[1, 2, 3]).is_none());
    first.save(&[1, 2, 3], b"abc").unwrap();
    first.save(&[1, 2, 9, 9], b"de").unwrap();
    for store in [&first, &other, &store(folder.path(), 1 << 20, "m")] {
        let (n, stored) = store.longest(&[1, 2, 3, 4]).unwrap();
        assert_eq!((n, &*stored.tokens), (3, &[1, 2, 3][..]));
        assert_eq!(store.load(&stored).as_deref(), Some(&b"abc"[..]));
        assert!(store.has(&[1, 2, 9, 9]) && !store.has(&[1, 2]));
        assert!(store.longest(&[7]).is_none());
    }
}

#[test]
fn what_was_made_for_another_model_is_not_offered() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), 1 << 20, "m")
        .save(&[1, 2], b"x")
        .unwrap();
    assert!(
        store(folder.path(), 1 << 20, "n")
            .longest(&[1, 2])
            .is_none()
    );
}

#[test]
fn no_byte_of_a_file_can_change_unnoticed_and_none_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let saved = store(folder.path(), 1 << 20, "m");
    saved.save(&[1, 2], b"state").unwrap();
    let file = files(folder.path()).remove(0);
    let sound = fs::read(&file).unwrap();
    let used = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let store = store(folder.path(), 1 << 20, "m");
        let found = store.longest(&[1, 2]);
        found.and_then(|(_, stored)| store.load(&stored))
    };
    for at in 0..sound.len() {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        assert_eq!(used(&damaged), None, "byte {at}");
        assert_eq!(used(&sound[..at]), None, "{at} bytes");
    }
    assert_eq!(used(&[&sound[..], b"more"].concat()), None);
    assert_eq!(used(&sound).as_deref(), Some(&b"state"[..]));
    // One that is damaged after it was seen is not used either.
    fs::write(&file, &sound[..sound.len() - 1]).unwrap();
    let (_, stored) = saved.longest(&[1, 2]).unwrap();
    assert_eq!(saved.load(&stored), None);
    assert!(saved.longest(&[1, 2]).is_none());
}

#[test]
fn the_least_recently_used_goes_first_and_what_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = vec![0; 1000];
    let store = store(folder.path(), 3500, "m");
    let old = SystemTime::now() - Duration::from_secs(1000);
    for (i, token) in [1, 2, 3].into_iter().enumerate() {
        store.save(&[token], &state).unwrap();
        let (_, stored) = store.longest(&[token]).unwrap();
        let file = File::options().append(true).open(&stored.path).unwrap();
        file.set_modified(old + Duration::from_secs(i as u64))
            .unwrap();
    }
    let (_, first) = store.longest(&[1]).unwrap();
    store.load(&first).unwrap();
    store.save(&[4], &state).unwrap();
    let there = [1, 2, 3, 4].map(|token| store.has(&[token]));
    assert_eq!(there, [true, false, true, true]);
    let refused = store.save(&[5], &vec![0; 4000]).unwrap_err();
    assert!(refused.contains("--cache-disk"), "{refused}");
    assert_eq!(files(folder.path()).len(), 3);
}

#[test]
fn what_a_dead_process_left_unfinished_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), 1 << 20, "m").save(&[1], b"x").unwrap();
    let left = folder.path().join("prefixes/0.prefix-unfinished");
    fs::write(&left, "half").unwrap();
    let old = SystemTime::now() - 2 * GIVEN_UP;
    File::options()
        .append(true)
        .open(&left)
        .unwrap()
        .set_modified(old)
        .unwrap();
    store(folder.path(), 1 << 20, "m");
    assert!(!left.exists());
}
