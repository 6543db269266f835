//! What a reader of files that lie must hold to.

use std::io::Cursor;
use std::path::Path;

use super::*;
use crate::Writer;

/// Every value type, one array of each kind, two tensors.
fn sample() -> (Metadata, Vec<TensorInfo>) {
    let mut m = Metadata::default();
    m.set("general.architecture", "llama");
    m.set("general.alignment", 64u32);
    m.set("a.u8", 200u8);
    m.set("a.i8", Value::I8(-3));
    m.set("a.u16", Value::U16(60_000));
    m.set("a.i16", Value::I16(-30_000));
    m.set("a.i32", -7i32);
    m.set("a.u64", u64::MAX);
    m.set("a.i64", Value::I64(i64::MIN));
    m.set("a.f32", 1.5f32);
    m.set("a.f64", Value::F64(-0.25));
    m.set("a.bool", true);
    m.set(
        "b.strings",
        Array::String(["a", "", "zwölf"].iter().collect()),
    );
    m.set("b.i32", Array::I32(vec![1, -2, 3]));
    m.set("b.f32", Array::F32(vec![0.5]));
    m.set("b.bool", Array::Bool(vec![true, false]));
    m.set("b.u64", Array::U64(vec![]));
    let tensors = vec![
        TensorInfo::new("token_embd.weight", vec![32, 3], TensorType::Q4_0).unwrap(),
        TensorInfo::new("output_norm.weight", vec![5], TensorType::F32).unwrap(),
    ];
    (m, tensors)
}

/// The sample as a file's bytes.
fn sample_file() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.gguf");
    let (metadata, tensors) = sample();
    let mut writer = Writer::create(&path, &metadata, tensors).unwrap();
    writer.write(&[7; 54]).unwrap();
    writer.write(&[8; 8]).unwrap();
    writer.write(&[9; 12]).unwrap();
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

fn parse(bytes: &[u8]) -> Result<Gguf> {
    let gguf = Gguf::parse(Cursor::new(bytes), Path::new("m.gguf"), bytes.len() as u64)?;
    gguf.check_data()?;
    Ok(gguf)
}

fn refusal(bytes: &[u8]) -> String {
    parse(bytes).expect_err("must be refused").to_string()
}

/// The sample with the bytes of `from`, which must occur once, replaced by `to`.
fn patched(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = sample_file();
    let places: Vec<_> = (0..bytes.len() - from.len())
        .filter(|&i| bytes[i..].starts_with(from))
        .collect();
    assert_eq!(places.len(), 1, "pattern {from:?} must occur once");
    bytes.splice(places[0]..places[0] + from.len(), to.iter().copied());
    bytes
}

/// A tensor name as the header has it: length, then bytes.
fn name(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn what_was_written_reads_back_the_same() {
    let gguf = parse(&sample_file()).unwrap();
    let (metadata, mut tensors) = sample();
    tensors[1].offset = 64;
    assert_eq!(gguf.version, 3);
    assert_eq!(gguf.alignment, 64);
    assert_eq!(gguf.metadata, metadata);
    assert_eq!(gguf.tensors, tensors);
    assert_eq!(gguf.data_start % 64, 0);
    assert_eq!(gguf.file_len, gguf.data_start + 128);
}

#[test]
fn tensor_bytes_come_from_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, sample_file()).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let mut bytes = [0; 12];
    gguf.read_tensor(&gguf.tensors[1], 0, &mut bytes).unwrap();
    assert_eq!(bytes, [8, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 9]);
}

#[test]
fn version_2_is_read_and_other_versions_are_refused() {
    let mut bytes = sample_file();
    bytes[4] = 2;
    assert_eq!(parse(&bytes).unwrap().version, 2);
    bytes[4] = 1;
    assert!(refusal(&bytes).contains("version 1 is not supported"));
    bytes[4..8].copy_from_slice(&[0, 0, 0, 3]);
    assert!(refusal(&bytes).contains("big-endian"));
}

#[test]
fn a_file_that_is_no_gguf_is_called_so() {
    assert!(refusal(b"").contains("not a GGUF file"));
    assert!(refusal(b"PK\x03\x04 a zip archive").contains("not a GGUF file"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = sample_file();
    // The last 44 bytes are padding behind the last tensor, which nobody needs.
    for len in 0..bytes.len() - 44 {
        refusal(&bytes[..len]);
    }
    parse(&bytes[..bytes.len() - 44]).unwrap();
    let gguf = parse(&bytes).unwrap();
    let cut = refusal(&bytes[..gguf.data_start as usize + 10]);
    assert!(
        cut.contains("cut short") && cut.contains("token_embd.weight"),
        "{cut}"
    );
}

#[test]
fn counts_that_no_file_can_hold_are_refused() {
    for at in [8, 16] {
        let mut bytes = sample_file();
        bytes[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        assert!(
            refusal(&bytes).contains("cannot lie in"),
            "count at byte {at}"
        );
    }
}

#[test]
fn lengths_beyond_the_file_are_refused_before_anything_is_allocated() {
    let mut long = name("general.architecture");
    let short = long.clone();
    long[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    assert!(refusal(&patched(&short, &long)).contains("only"));

    // An array of 2^61 numbers, whose size in bytes overflows.
    let mut array = name("b.i32");
    array.extend([9, 0, 0, 0, 5, 0, 0, 0, 3]);
    let mut lying = array.clone();
    lying.pop();
    lying.extend([3, 0, 0, 0, 0, 0, 0, 0x20]);
    array.extend([0; 7]);
    assert!(refusal(&patched(&array, &lying)).contains("b.i32"));
}

#[test]
fn arrays_of_arrays_and_unknown_types_are_refused() {
    let mut array = name("b.i32");
    array.extend([9, 0, 0, 0, 5]);
    let mut nested = array.clone();
    nested[17] = 9;
    assert!(refusal(&patched(&array, &nested)).contains("array of array"));
    nested[13] = 99;
    assert!(refusal(&patched(&array, &nested)).contains("unknown value type 99"));
}

#[test]
fn keys_and_tensors_may_not_appear_twice() {
    let key = refusal(&patched(&name("a.f32"), &name("a.f64")));
    assert!(key.contains("a.f64") && key.contains("twice"), "{key}");
    let (metadata, mut tensors) = sample();
    tensors[1].name = tensors[0].name.clone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut writer = Writer::create(&path, &metadata, tensors).unwrap();
    writer.write(&[0; 54]).unwrap();
    writer.write(&[0; 20]).unwrap();
    writer.finish().unwrap();
    assert!(Gguf::open(&path).unwrap_err().to_string().contains("twice"));
}

#[test]
fn names_that_a_c_string_would_cut_are_refused() {
    for (from, to) in [
        ("a.f32", "a.f\u{0}2"),
        ("output_norm.weight", "output\0norm.weight"),
    ] {
        let line = refusal(&patched(&name(from), &name(to)));
        assert!(
            line.contains("zero byte") && !line.contains('\0'),
            "{line:?}"
        );
    }
    let value = refusal(&patched(
        b"\x05\0\0\0\0\0\0\0llama",
        b"\x05\0\0\0\0\0\0\0lla\0a",
    ));
    assert!(
        value.contains("general.architecture") && value.contains("zero byte"),
        "{value}"
    );
}

#[test]
fn a_part_of_a_split_model_is_no_whole_model_however_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m-00001-of-00002.gguf");
    let opened = |count: Value| {
        let (mut metadata, tensors) = sample();
        metadata.set("split.count", count);
        let mut writer = Writer::create(&path, &metadata, tensors).unwrap();
        writer.write(&[0; 54]).unwrap();
        writer.write(&[0; 20]).unwrap();
        writer.finish().unwrap();
        Gguf::open_header(&path).unwrap();
        Gguf::open(&path).map_err(|error| error.to_string())
    };
    opened(Value::U16(1)).unwrap();
    for parts in [Value::U16(2), Value::I16(-1), Value::F32(2.0)] {
        let line = opened(parts).unwrap_err();
        assert!(line.contains("merge the parts"), "{line}");
    }
}

#[test]
fn an_alignment_must_be_a_power_of_two() {
    let mut right = name("general.alignment");
    right.extend([4, 0, 0, 0, 64, 0, 0, 0]);
    for wrong in [0u32, 48] {
        let mut bytes = name("general.alignment");
        bytes.extend([4, 0, 0, 0]);
        bytes.extend(wrong.to_le_bytes());
        assert!(refusal(&patched(&right, &bytes)).contains("power of two"));
    }
}

#[test]
fn tensors_that_lie_about_their_shape_or_place_are_refused() {
    let info = |dims: &[u64], type_number: u32, offset: u64| {
        let mut bytes = name("token_embd.weight");
        bytes.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| bytes.extend(d.to_le_bytes()));
        bytes.extend(type_number.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes
    };
    let right = info(&[32, 3], 2, 0);
    let cases: [(&[u64], u32, u64, &str); 9] = [
        (&[32, 3], 4, 0, "unknown type 4"),
        (&[33, 3], 2, 0, "no whole number"),
        (&[32, 0], 2, 0, "empty dimension"),
        (&[], 2, 0, "0 dimensions"),
        (&[32, 1, 1, 1, 1], 2, 0, "5 dimensions"),
        (&[1 << 40, 1 << 40], 2, 0, "overflows"),
        (&[32, 3], 2, 7, "not a multiple"),
        (&[32, 3], 2, u64::MAX - 63, "overflows"),
        (&[32, 3], 2, 64, "inside another tensor"),
    ];
    for (dims, type_number, offset, expected) in cases {
        let line = refusal(&patched(&right, &info(dims, type_number, offset)));
        assert!(line.contains(expected), "{line} should contain {expected}");
    }
    assert!(refusal(&patched(&right, &info(&[32, 1 << 30], 2, 128))).contains("cut short"));
}

#[test]
fn no_damage_to_a_header_makes_the_reader_panic() {
    let bytes = sample_file();
    // xorshift64: the same damage on every run.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut sound, mut refused) = (0, 0);
    for _ in 0..50_000 {
        let mut damaged = bytes.clone();
        for _ in 0..=random() % 4 {
            let at = random() as usize % damaged.len();
            match random() % 4 {
                0 => damaged[at] = random() as u8,
                1 => damaged[at] ^= 1 << (random() % 8),
                2 => damaged.truncate(at.max(1)),
                _ => {
                    let huge = [u64::MAX, 1 << 63, 1 << 32, 0][random() as usize % 4];
                    let end = damaged.len().min(at + 8);
                    damaged[at..end].copy_from_slice(&huge.to_le_bytes()[..end - at]);
                }
            }
        }
        match parse(&damaged) {
            Ok(gguf) => {
                // What passed must be safe to compute with.
                assert!(
                    gguf.tensors
                        .iter()
                        .all(|t| t.bytes() <= damaged.len() as u64)
                );
                sound += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert!(sound > 0 && refused > 0, "{sound} sound, {refused} refused");
}
