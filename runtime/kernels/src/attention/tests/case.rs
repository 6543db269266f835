//! What there is to attend to, what an instruction set makes of it, and what the definition does.

use crate::attention::cache::Elements;
use crate::attention::plan::{F16, Plan, Q8_0};
use crate::attention::{Attention, Tensor};
use crate::scalar;
use crate::simd::Simd;

/// What there is to attend to, all of it random.
#[derive(Clone, Debug)]
pub struct Case {
    pub tokens: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub streams: usize,
    pub keys: usize,
    pub widths: [usize; 2],
    pub elements: [Elements; 2],
    pub q: Vec<f32>,
    pub caches: [Vec<u8>; 2],
    pub mask: Vec<u16>,
    pub sinks: Option<&'static [f32]>,
}

/// What keeps a score, and what takes a key from sight.
pub const ZERO: u16 = 0;
pub const MINUS_INFINITY: u16 = 0xfc00;

/// Of at most as many heads.
static SINKS: [f32; 16] = [
    0.5, -1.0, 2.0, -40.0, 0.0, 1.5, 30.0, -0.25, 0.0, 1.0, -2.0, 0.125, 3.0, -3.0, 0.75, 1.25,
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// Of half precision, from two to the power of `exponent - 15` to twice as much.
    fn half(&mut self, exponent: u32) -> u16 {
        let bits = self.next();
        (bits & 0x83ff | (exponent + (bits >> 16 & 1)) << 10) as u16
    }
}

pub fn row_bytes(elements: Elements, width: usize) -> usize {
    match elements {
        Elements::F16 => width * 2,
        Elements::Q8_0 => width / 32 * 34,
    }
}

impl Case {
    pub fn new(seed: u64, shape: [usize; 5], widths: [usize; 2], elements: [Elements; 2]) -> Self {
        let mut random = Random(seed | 1);
        let [tokens, heads, kv_heads, streams, keys] = shape;
        let q = (0..streams * tokens * heads * widths[0])
            .map(|_| random.next() as i32 as f32 / 1e9)
            .collect();
        let caches = [0, 1].map(|which| {
            let row = row_bytes(elements[which], widths[which]);
            let count = streams * keys * kv_heads;
            // Between rows lies what is no number.
            let mut bytes = vec![0xff; (row + 2) * count];
            for row in bytes.chunks_exact_mut(row + 2) {
                match elements[which] {
                    Elements::F16 => row[..widths[which] * 2]
                        .chunks_exact_mut(2)
                        .for_each(|half| half.copy_from_slice(&random.half(13).to_le_bytes())),
                    Elements::Q8_0 => {
                        for block in row.chunks_exact_mut(34) {
                            block.fill_with(|| random.next() as u8);
                            block[..2].copy_from_slice(&random.half(7).to_le_bytes());
                        }
                    }
                }
            }
            bytes
        });
        // Later tokens see more, some keys nobody does, and to some scores something is added.
        let mut mask = Vec::new();
        for _ in 0..streams {
            let hidden = random.next() as usize % keys.div_ceil(2);
            for token in 0..tokens {
                let end = (keys / 2 + token + random.next() as usize % 3).min(keys);
                mask.extend((0..keys).map(|key| match random.next() % 8 {
                    _ if key < hidden || key >= end => MINUS_INFINITY,
                    0 => MINUS_INFINITY,
                    1 => random.half(14),
                    _ => ZERO,
                }));
            }
        }
        Self {
            tokens,
            heads,
            kv_heads,
            streams,
            keys,
            widths,
            elements,
            q,
            caches,
            mask,
            sinks: seed.is_multiple_of(3).then_some(&SINKS),
        }
    }

    fn attention(&self, output: &mut [f32]) -> Attention {
        let cache = |which: usize| {
            let head = row_bytes(self.elements[which], self.widths[which]) as u64 + 2;
            Tensor {
                data: self.caches[which].as_ptr(),
                token: head * self.kv_heads as u64,
                head,
                stream: head * (self.kv_heads * self.keys) as u64,
            }
        };
        let number = |which: usize| match self.elements[which] {
            Elements::F16 => F16,
            Elements::Q8_0 => Q8_0,
        };
        let query = self.widths[0] as u64 * 4;
        Attention {
            key_type: number(0),
            value_type: number(1),
            scale: self.scale(),
            key_width: self.widths[0] as u64,
            value_width: self.widths[1] as u64,
            tokens: self.tokens as u64,
            heads: self.heads as u64,
            kv_heads: self.kv_heads as u64,
            streams: self.streams as u64,
            keys: self.keys as u64,
            q: Tensor {
                data: self.q.as_ptr().cast(),
                token: query * self.heads as u64,
                head: query,
                stream: query * (self.heads * self.tokens) as u64,
            },
            k: cache(0),
            v: cache(1),
            mask: Tensor {
                data: self.mask.as_ptr().cast(),
                token: self.keys as u64 * 2,
                head: 0,
                stream: (self.keys * self.tokens) as u64 * 2,
            },
            sinks: self.sinks.map_or(std::ptr::null(), <[f32]>::as_ptr),
            output: output.as_mut_ptr(),
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.widths[0] as f32).sqrt()
    }

    /// With `simd`, by so many threads one after the other.
    pub fn compute(&self, simd: Simd, threads: usize) -> Vec<f32> {
        let values = self.streams * self.tokens * self.heads * self.widths[1];
        let mut output = vec![f32::NAN; values + 1];
        let attention = self.attention(&mut output);
        let plan = Plan::new(&attention, simd).expect("it is computed here");
        let mut work = vec![f32::NAN; plan.work_bytes(threads) / 4];
        for task in 0..plan.tasks() {
            let thread = task * 7 % threads;
            // SAFETY: the tensors are as large as the attention says, and so is the work buffer.
            unsafe { plan.compute(task, work.as_mut_ptr(), threads, thread) };
        }
        for thread in 0..threads {
            // SAFETY: as above; all tasks are done.
            unsafe { plan.finish(work.as_mut_ptr(), threads, thread) };
        }
        assert!(
            output.pop().is_some_and(f32::is_nan),
            "written beyond the end"
        );
        output
    }

    /// Elements of a row of keys (0) or values (1).
    fn row(&self, which: usize, stream: usize, key: usize, head: usize) -> Vec<f64> {
        let bytes = row_bytes(self.elements[which], self.widths[which]);
        let number = (stream * self.keys + key) * self.kv_heads + head;
        let row = &self.caches[which][number * (bytes + 2)..][..bytes];
        match self.elements[which] {
            Elements::F16 => (0..self.widths[which])
                .map(|i| scalar::f16(row, i * 2))
                .collect(),
            Elements::Q8_0 => row
                .chunks_exact(34)
                .flat_map(|block| {
                    let scale = scalar::f16(block, 0);
                    block[2..]
                        .iter()
                        .map(move |byte| f64::from(*byte as i8) * scale)
                })
                .collect(),
        }
    }

    /// The definition: of each value, what it is, and how far rounding may take it.
    pub fn reference(&self) -> Vec<(f64, f64)> {
        let mut values = Vec::new();
        let group = self.heads / self.kv_heads;
        for stream in 0..self.streams {
            let rows = [0, 1].map(|which| {
                (0..self.keys * self.kv_heads)
                    .map(|i| self.row(which, stream, i / self.kv_heads, i % self.kv_heads))
                    .collect::<Vec<_>>()
            });
            for token in 0..self.tokens {
                for head in 0..self.heads {
                    let number = (stream * self.tokens + token) * self.heads + head;
                    let query = &self.q[number * self.widths[0]..][..self.widths[0]];
                    let mask = &self.mask[(stream * self.tokens + token) * self.keys..];
                    let mut sum = self.sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
                    let mut largest = 0.0f64;
                    let mut sums = vec![(0.0, 0.0); self.widths[1]];
                    for key in 0..self.keys {
                        let row = &rows[0][key * self.kv_heads + head / group];
                        let terms = row.iter().zip(query).map(|(a, b)| a * f64::from(*b));
                        let size: f64 = terms.clone().map(f64::abs).sum();
                        let added = scalar::f16(&mask[key].to_le_bytes(), 0);
                        let weight = (terms.sum::<f64>() * f64::from(self.scale()) + added).exp();
                        if weight > 0.0 {
                            largest = largest.max(size * f64::from(self.scale()));
                        }
                        sum += weight;
                        let row = &rows[1][key * self.kv_heads + head / group];
                        for ((sum, size), value) in sums.iter_mut().zip(row) {
                            *sum += weight * value;
                            *size += weight * value.abs();
                        }
                    }
                    let sum = if sum == 0.0 { 1.0 } else { sum };
                    values.extend(sums.into_iter().map(|(value, size)| {
                        (value / sum, size / sum * (4e-6 + 1e-6 * largest) + 1e-30)
                    }));
                }
            }
        }
        values
    }
}
