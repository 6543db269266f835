//! `llama_model_quantize`, the function behind `llama-quantize`, of the llama.cpp that is linked here,
//! held against `convert --like-llama-quantize`: the same types, the same bytes, the same keys.

use std::ffi::{CString, c_char, c_void};
use std::path::Path;

use cloister_gguf::{Array, Gguf, Metadata, TensorInfo, TensorType, Writer};
use llama_cpp_sys_2 as sys;

use super::{cloister_quantize, tensor_bytes};

/// Every file type that does without an importance matrix, with llama.cpp's number for it.
pub const FILE_TYPES: [(&str, sys::llama_ftype); 24] = [
    ("F32", sys::LLAMA_FTYPE_ALL_F32),
    ("F16", sys::LLAMA_FTYPE_MOSTLY_F16),
    ("BF16", sys::LLAMA_FTYPE_MOSTLY_BF16),
    ("Q8_0", sys::LLAMA_FTYPE_MOSTLY_Q8_0),
    ("Q6_K", sys::LLAMA_FTYPE_MOSTLY_Q6_K),
    ("Q5_K_M", sys::LLAMA_FTYPE_MOSTLY_Q5_K_M),
    ("Q5_K_S", sys::LLAMA_FTYPE_MOSTLY_Q5_K_S),
    ("Q5_1", sys::LLAMA_FTYPE_MOSTLY_Q5_1),
    ("Q5_0", sys::LLAMA_FTYPE_MOSTLY_Q5_0),
    ("Q4_K_M", sys::LLAMA_FTYPE_MOSTLY_Q4_K_M),
    ("Q4_K_S", sys::LLAMA_FTYPE_MOSTLY_Q4_K_S),
    ("Q4_1", sys::LLAMA_FTYPE_MOSTLY_Q4_1),
    ("Q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0),
    ("MXFP4_MOE", sys::LLAMA_FTYPE_MOSTLY_MXFP4_MOE),
    ("IQ4_NL", sys::LLAMA_FTYPE_MOSTLY_IQ4_NL),
    ("IQ4_XS", sys::LLAMA_FTYPE_MOSTLY_IQ4_XS),
    ("Q3_K_L", sys::LLAMA_FTYPE_MOSTLY_Q3_K_L),
    ("Q3_K_M", sys::LLAMA_FTYPE_MOSTLY_Q3_K_M),
    ("Q3_K_S", sys::LLAMA_FTYPE_MOSTLY_Q3_K_S),
    ("IQ3_M", sys::LLAMA_FTYPE_MOSTLY_IQ3_M),
    ("IQ3_S", sys::LLAMA_FTYPE_MOSTLY_IQ3_S),
    ("Q2_K", sys::LLAMA_FTYPE_MOSTLY_Q2_K),
    ("TQ2_0", sys::LLAMA_FTYPE_MOSTLY_TQ2_0),
    ("TQ1_0", sys::LLAMA_FTYPE_MOSTLY_TQ1_0),
];

extern "C" fn silent(_: sys::ggml_log_level, _: *const c_char, _: *mut c_void) {}

/// What both tools are given besides a file type.
#[derive(Default)]
pub struct Given {
    /// Sums and counts by the name of the weight.
    pub imatrix: Vec<(String, Vec<f32>, Vec<f32>)>,
    /// Patterns with ours and llama.cpp's name of a type.
    pub overrides: Vec<(&'static str, &'static str, sys::ggml_type)>,
}

impl Given {
    /// An importance matrix for every matrix of layers in a model: each weight's entry has a count
    /// for each of its matrices, the last of which met nothing if there are several.
    pub fn imatrix_of(source: &Path) -> Given {
        let gguf = Gguf::open(source).unwrap();
        let matrices = gguf.tensors.iter();
        let matrices = matrices.filter(|t| t.name.starts_with("blk.") && t.dims.len() > 1);
        let entries = matrices.map(|t| {
            let n = t.dims.get(2).copied().unwrap_or(1);
            let columns = n * t.row_elements();
            let sums = (0..columns).map(|i| (i * 37 % 101 + 1) as f32 / 8.0);
            let mut counts: Vec<f32> = (0..n).map(|i| (i + 4) as f32).collect();
            if n > 1 {
                counts[n as usize - 1] = 0.0;
            }
            (t.name.clone(), sums.collect(), counts)
        });
        Given {
            imatrix: entries.collect(),
            overrides: Vec::new(),
        }
    }

    /// The file that `llama-imatrix` would write.
    pub fn write_imatrix(&self, path: &Path) {
        let mut metadata = Metadata::default();
        metadata.set("general.type", "imatrix");
        let datasets = Array::String(["some.txt"].into_iter().collect());
        metadata.set("imatrix.datasets", datasets);
        metadata.set("imatrix.chunk_count", 3u32);
        metadata.set("imatrix.chunk_size", 512u32);
        let mut infos = Vec::new();
        for (name, sums, counts) in &self.imatrix {
            let n = counts.len() as u64;
            for (suffix, columns) in [(".in_sum2", sums.len() as u64 / n), (".counts", 1)] {
                let dims = if n > 1 {
                    vec![columns, n]
                } else {
                    vec![columns]
                };
                let info = TensorInfo::new(format!("{name}{suffix}"), dims, TensorType::F32);
                infos.push(info.unwrap());
            }
        }
        let mut writer = Writer::create(path, &metadata, infos).unwrap();
        for values in self
            .imatrix
            .iter()
            .flat_map(|(_, sums, counts)| [sums, counts])
        {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            writer.write(&bytes).unwrap();
        }
        writer.finish().unwrap();
    }

    /// What `llama-quantize` hands to `llama_model_quantize`: means, and ones where nothing was met.
    fn means(&self) -> Vec<(CString, Vec<f32>)> {
        let mean = |sums: &[f32], counts: &[f32]| {
            let columns = sums.len() / counts.len();
            let of = |i: usize| match counts[i / columns] {
                0.0 => 1.0,
                count => sums[i] / count,
            };
            (0..sums.len()).map(of).collect()
        };
        let entries = self.imatrix.iter();
        entries
            .map(|(name, sums, counts)| (CString::new(name.as_str()).unwrap(), mean(sums, counts)))
            .collect()
    }
}

fn llama_quantize(source: &Path, out: &Path, file_type: sys::llama_ftype, given: &Given) {
    let (source, out): (CString, CString) = [source, out]
        .map(|p| CString::new(p.to_str().unwrap()).unwrap())
        .into();
    let means = given.means();
    let mut imatrix: Vec<_> = means
        .iter()
        .map(|(name, values)| sys::llama_model_imatrix_data {
            name: name.as_ptr(),
            data: values.as_ptr(),
            size: values.len(),
        })
        .collect();
    imatrix.push(sys::llama_model_imatrix_data {
        name: std::ptr::null(),
        data: std::ptr::null(),
        size: 0,
    });
    let overrides = given.overrides.iter();
    let patterns: Vec<_> = overrides
        .map(|(pattern, _, number)| (CString::new(*pattern).unwrap(), *number))
        .collect();
    let mut overrides: Vec<_> = patterns
        .iter()
        .map(|(pattern, number)| sys::llama_model_tensor_override {
            pattern: pattern.as_ptr(),
            type_: *number,
        })
        .collect();
    overrides.push(sys::llama_model_tensor_override {
        pattern: std::ptr::null(),
        type_: sys::GGML_TYPE_COUNT,
    });
    // SAFETY: paths, parameters and what they point to outlive the call; the lists end with an entry
    // of null; the callback ignores its arguments.
    let code = unsafe {
        sys::llama_log_set(Some(silent), std::ptr::null_mut());
        let mut params = sys::llama_model_quantize_default_params();
        params.ftype = file_type;
        params.allow_requantize = true;
        params.nthread = 2;
        if !given.imatrix.is_empty() {
            params.imatrix = imatrix.as_ptr();
        }
        params.tt_overrides = overrides.as_ptr();
        sys::llama_model_quantize(source.as_ptr(), out.as_ptr(), &params)
    };
    assert_eq!(code, 0, "llama_model_quantize failed");
}

#[track_caller]
pub fn assert_same(source: &Path, file_type: (&str, sys::llama_ftype)) {
    assert_same_given(source, file_type, &Given::default());
}

#[track_caller]
pub fn assert_same_given(source: &Path, (name, number): (&str, sys::llama_ftype), given: &Given) {
    let folder = tempfile::tempdir().unwrap();
    let [ours, theirs, imatrix] =
        ["ours.gguf", "theirs.gguf", "imatrix.gguf"].map(|name| folder.path().join(name));
    let path = |p: &Path| p.to_str().unwrap().to_owned();
    let mut args = vec!["convert".to_owned(), path(source), path(&ours)];
    args.extend(["--like-llama-quantize", "--type", name].map(str::to_owned));
    if !given.imatrix.is_empty() {
        given.write_imatrix(&imatrix);
        args.extend(["--imatrix".to_owned(), path(&imatrix)]);
    }
    for (pattern, name, _) in &given.overrides {
        args.extend(["--tensor-type".to_owned(), format!("{pattern}={name}")]);
    }
    cloister_quantize(&args).succeeded();
    llama_quantize(source, &theirs, number, given);
    let (mut ours, theirs) = (Gguf::open(&ours).unwrap(), Gguf::open(&theirs).unwrap());

    assert_eq!(ours.tensors.len(), theirs.tensors.len());
    for mine in &ours.tensors {
        let other = theirs.tensor(&mine.name).unwrap();
        assert_eq!(
            (mine.tensor_type, &mine.dims),
            (other.tensor_type, &other.dims),
            "{name}: {mine:?}"
        );
        let same = tensor_bytes(&ours, mine) == tensor_bytes(&theirs, other);
        assert!(same, "{name}: bytes of {} differ", mine.name);
    }
    // The program llama-quantize records these, not the function in the library.
    if !given.imatrix.is_empty() {
        let entries = given.imatrix.len() as u64;
        assert_eq!(
            ours.metadata.u64("quantize.imatrix.entries_count"),
            Some(entries)
        );
        assert_eq!(ours.metadata.u64("quantize.imatrix.chunks_count"), Some(3));
        assert_eq!(
            ours.metadata.str("quantize.imatrix.dataset"),
            Some("some.txt")
        );
        assert!(ours.metadata.str("quantize.imatrix.file").is_some());
        for key in ["entries_count", "chunks_count", "dataset", "file"] {
            ours.metadata.remove(&format!("quantize.imatrix.{key}"));
        }
    }
    assert_eq!(ours.metadata.len(), theirs.metadata.len(), "{name}");
    for (key, value) in theirs.metadata.iter() {
        assert_eq!(ours.metadata.get(key), Some(value), "{name}: {key}");
    }
}
