//! FP8 weights: one byte for each, E4M3, and an F32 scale for each block of them.
//!
//! In: bytes of whole rows and the scales beside them. Out: F32. The format of DeepSeek-V3's
//! checkpoints: `weight = code * weight_scale_inv[row / 128][column / 128]`, where the blocks at the
//! right and lower edge may be cut. The numbers: <https://arxiv.org/abs/2209.05433>, without its
//! infinity, as in torch's `float8_e4m3fn`.

use anyhow::{Result, bail};
use serde_json::Value;

use super::json_file::JsonFile;

/// What a weight's name gets for the name of its scales.
pub const SCALES: &str = "_scale_inv";

/// The value of each code.
static VALUES: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        values[code] = value(code as u8);
        code += 1;
    }
    values
};

const fn value(code: u8) -> f32 {
    let (exponent, mantissa) = (code as u32 >> 3 & 15, code as u32 & 7);
    let magnitude = match (exponent, mantissa) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa as f32 / 512.0,
        // The exponent's bias is 7 there and 127 here.
        _ => f32::from_bits((exponent + 120) << 23 | mantissa << 20),
    };
    if code < 128 { magnitude } else { -magnitude }
}

/// The blocks that share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fp8 {
    rows: u64,
    columns: u64,
}

impl Fp8 {
    /// Reads `quantization_config`; `None` if there is none.
    pub fn read(file: &JsonFile) -> Result<Option<Fp8>> {
        let Some(config) = file.get("quantization_config") else {
            return Ok(None);
        };
        let shown = format!("{}: quantization_config", file.path().display());
        if config["quant_method"] != "fp8" {
            let method = &config["quant_method"];
            bail!("{shown}: quant_method {method} cannot be converted; \"fp8\" can");
        }
        if !matches!(config["fmt"].as_str(), None | Some("e4m3")) {
            let format = &config["fmt"];
            bail!("{shown}: fmt {format} cannot be converted; \"e4m3\" can");
        }
        let blocks = &config["weight_block_size"];
        let size = |i: usize| blocks[i].as_u64().filter(|n| (1..1 << 32).contains(n));
        match (blocks.as_array().map(Vec::len), size(0), size(1)) {
            (Some(2), Some(rows), Some(columns)) => Ok(Some(Fp8 { rows, columns })),
            _ if *blocks == Value::Null => bail!("{shown}: weight_block_size is missing"),
            _ => bail!("{shown}: weight_block_size {blocks} is no pair of sizes"),
        }
    }

    /// The scales that a matrix of `[rows, columns]` needs, as `[rows, columns]`.
    pub fn scales(&self, [rows, columns]: [u64; 2]) -> [u64; 2] {
        [rows.div_ceil(self.rows), columns.div_ceil(self.columns)]
    }

    /// The rows of scales that `rows` rows from `first` on need, as first and number.
    pub fn scale_rows(&self, first: u64, rows: u64) -> (u64, u64) {
        let start = first / self.rows;
        (start, (first + rows).div_ceil(self.rows) - start)
    }

    /// Fills `out` with `codes`, rows of `columns` from row `first` of the matrix on. `scales` are
    /// those of [`Fp8::scale_rows`].
    pub fn dequantize(
        &self,
        first: u64,
        columns: usize,
        codes: &[u8],
        scales: &[f32],
        out: &mut [[u8; 4]],
    ) {
        let scale_columns = columns.div_ceil(self.columns as usize);
        let rows = codes
            .chunks_exact(columns)
            .zip(out.chunks_exact_mut(columns));
        for (row, (codes, out)) in (first..).zip(rows) {
            let scale_row = (row / self.rows - first / self.rows) as usize;
            let scales = &scales[scale_row * scale_columns..][..scale_columns];
            let blocks = codes
                .chunks(self.columns as usize)
                .zip(out.chunks_mut(self.columns as usize));
            for (scale, (codes, out)) in scales.iter().zip(blocks) {
                for (code, out) in codes.iter().zip(out) {
                    *out = (VALUES[*code as usize] * scale).to_le_bytes();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_have_the_values_of_e4m3() {
        for (code, value) in [
            (0x00, 0.0),
            (0x01, 1.0 / 512.0),
            (0x07, 7.0 / 512.0),
            (0x08, 1.0 / 64.0),
            (0x38, 1.0),
            (0x3c, 1.5),
            (0x7e, 448.0),
            (0xb8, -1.0),
            (0xfe, -448.0),
        ] {
            assert_eq!(VALUES[code], value, "{code:#x}");
        }
        assert!(VALUES[0x7f].is_nan() && VALUES[0xff].is_nan());
        assert_eq!(VALUES.iter().filter(|v| v.is_nan()).count(), 2);
        assert!(VALUES[0x80] == 0.0 && VALUES[0x80].is_sign_negative());
    }

    #[test]
    fn each_block_has_its_scale_and_those_at_the_edges_are_cut() {
        let fp8 = Fp8 {
            rows: 2,
            columns: 3,
        };
        assert_eq!(fp8.scales([5, 4]), [3, 2]);
        // Rows 1 to 4 of a matrix of five rows and four columns; every code is 1.
        assert_eq!(fp8.scale_rows(1, 4), (0, 3));
        let scales = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut out = [[0; 4]; 16];
        fp8.dequantize(1, 4, &[0x38; 16], &scales, &mut out);
        assert_eq!(
            out.map(f32::from_le_bytes),
            [
                1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0, 3.0, 3.0, 3.0, 4.0, 5.0, 5.0, 5.0, 6.0
            ]
        );
    }
}
