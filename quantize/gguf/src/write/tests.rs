use super::*;
use crate::TensorType;

fn start(path: &Path) -> Result<Writer> {
    let tensor = TensorInfo::new("t", vec![4], TensorType::F32).unwrap();
    Writer::create(path, &Metadata::default(), vec![tensor])
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn the_final_name_appears_only_when_the_file_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut writer = start(&path).unwrap();
    writer.write(&[1; 8]).unwrap();
    assert!(!path.exists());
    assert_eq!(names(folder.path()).len(), 1);
    writer.write(&[2; 8]).unwrap();
    writer.finish().unwrap();
    assert_eq!(names(folder.path()), ["m.gguf"]);
    crate::Gguf::open(&path).unwrap();
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing_and_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, "old").unwrap();
    let mut writer = start(&path).unwrap();
    writer.write(&[1; 8]).unwrap();
    drop(writer);
    assert_eq!(names(folder.path()), ["m.gguf"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}

#[test]
fn what_a_killed_process_left_is_stepped_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let killed = start(&path).unwrap();
    let mut writer = start(&path).unwrap();
    writer.write(&[0; 16]).unwrap();
    writer.finish().unwrap();
    std::mem::forget(killed);
    assert_eq!(names(folder.path()).len(), 2);
    crate::Gguf::open(&path).unwrap();
}

#[test]
fn a_missing_folder_is_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let line = start(&folder.path().join("no/m.gguf"))
        .unwrap_err()
        .to_string();
    assert!(line.contains("no/m.gguf: cannot create"), "{line}");
}

fn identity(source: &str) -> Identity {
    vec![
        ("type".into(), "F32".into()),
        ("source".into(), source.into()),
    ]
}

fn two_tensors() -> Vec<TensorInfo> {
    let of = |name, rows| TensorInfo::new(name, vec![4, rows], TensorType::F32).unwrap();
    vec![of("a", 3), of("b", 5)]
}

/// Writes rows from where `writer` is until `rows` are written in all, row by row.
fn write_rows(writer: &mut Writer, rows: usize) {
    let all: Vec<(usize, u64)> = (0..3)
        .map(|r| (0, r))
        .chain((0..5).map(|r| (1, r)))
        .collect();
    let from = all.iter().position(|&place| place == writer.position());
    for &(tensor, row) in &all[from.unwrap()..rows] {
        writer
            .write(&[(10 * tensor as u8) + row as u8; 16])
            .unwrap();
    }
}

fn begin(path: &Path) -> Writer {
    Writer::create_resumable(path, &Metadata::default(), two_tensors(), &identity("s")).unwrap()
}

fn go_on(path: &Path, source: &str) -> Result<Option<Writer>> {
    Writer::resume(path, &Metadata::default(), two_tensors(), &identity(source))
}

#[test]
fn a_file_that_is_resumed_at_any_row_has_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.gguf");
    let mut writer = begin(&whole);
    write_rows(&mut writer, 8);
    writer.finish().unwrap();
    let path = folder.path().join("m.gguf");
    for rows in 0..=8 {
        let mut writer = begin(&path);
        write_rows(&mut writer, rows);
        writer.keep().unwrap();
        assert!(!path.exists());
        let mut writer = go_on(&path, "s").unwrap().unwrap();
        if writer.next_tensor().is_some() {
            write_rows(&mut writer, 8);
        }
        writer.finish().unwrap();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            std::fs::read(&whole).unwrap()
        );
        assert_eq!(names(folder.path()).len(), 2, "no partial file is left");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_was_written_after_the_last_sync_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut writer = begin(&path);
    write_rows(&mut writer, 2);
    writer.keep().unwrap();
    // What a power cut may leave behind the bytes that were synced.
    let partial = partial::partial_path(&path).unwrap();
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&partial)
        .unwrap();
    file.write_all(&[0xff; 1000]).unwrap();
    let mut writer = go_on(&path, "s").unwrap().unwrap();
    assert_eq!(writer.position(), (0, 2));
    write_rows(&mut writer, 8);
    writer.finish().unwrap();
    let gguf = crate::Gguf::open(&path).unwrap();
    let mut bytes = [0; 16];
    gguf.read_tensor(&gguf.tensors[0], 32, &mut bytes).unwrap();
    assert_eq!(bytes, [2; 16]);
}

#[test]
fn another_source_is_not_gone_on_with_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    begin(&path).keep().unwrap();
    let line = go_on(&path, "other").unwrap_err().to_string();
    assert!(
        line.contains("it was begun with source s, now it is other"),
        "{line}"
    );
    assert_eq!(names(folder.path()).len(), 2, "it is still there");
}

#[test]
fn without_a_partial_file_there_is_nothing_to_go_on_with() {
    let folder = tempfile::tempdir().unwrap();
    assert!(go_on(&folder.path().join("m.gguf"), "s").unwrap().is_none());
}

#[test]
fn two_writers_of_one_file_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let first = begin(&path);
    let refused = go_on(&path, "s").unwrap_err();
    assert!(matches!(refused, Error::Busy { .. }), "{refused}");
    first.discard();
    assert_eq!(names(folder.path()), [] as [&str; 0]);
}

#[test]
fn the_size_is_known_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut writer = begin(&path);
    write_rows(&mut writer, 8);
    writer.finish().unwrap();
    let size = file_size(&Metadata::default(), two_tensors());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
}
