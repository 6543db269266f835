//! What the rounds gave, beside the limits: as a table or as JSON.

use cloister_engine::bench::Bench;
use cloister_engine::bench::peak::Peaks;
use serde_json::json;

use super::roofline::Work;
use super::{BenchArgs, facts, head};

/// What one round gave, in tokens a second.
#[derive(Clone, Copy)]
pub struct Sample {
    pub ours: f64,
    /// With the logits of all tokens.
    pub all_logits: f64,
    /// As stored, and repacked.
    pub theirs: Option<[f64; 2]>,
}

impl Sample {
    fn ratio(self) -> Option<f64> {
        self.theirs.map(|[a, b]| self.ours / a.max(b))
    }
}

/// All rounds of one batch size.
pub struct Row {
    pub n: u32,
    pub samples: Vec<Sample>,
}

impl Row {
    /// The median over the rounds; a ratio is that of its own round.
    pub fn ratio(&self) -> Option<f64> {
        self.median(|s| s.ratio())
    }

    fn ours(&self) -> f64 {
        self.median(|s| Some(s.ours)).expect("a round at least")
    }

    fn all_logits(&self) -> f64 {
        self.median(|s| Some(s.all_logits))
            .expect("a round at least")
    }

    fn theirs(&self, mode: usize) -> Option<f64> {
        self.median(|s| s.theirs.map(|t| t[mode]))
    }

    fn median(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let mut values = self.samples.iter().map(of).collect::<Option<Vec<_>>>()?;
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let low = values[(values.len() - 1) / 2];
        Some((low + values[middle]) / 2.0)
    }
}

/// For scripts: names and units stay as they are.
pub fn json(args: &BenchArgs, bench: &Bench, work: Work, peaks: Peaks, rows: &[Row]) -> String {
    let mut report = facts(bench, &args.model);
    report["peaks"] =
        json!({"bytes_per_second": peaks.bytes, "int8_operations_per_second": peaks.operations});
    report["token"] = json!({"bytes": work.bytes(), "operations": work.operations()});
    report["batches"] = rows
        .iter()
        .map(|row| {
            json!({
                "n": row.n,
                "tokens_per_second": row.ours(),
                "tokens_per_second_all_logits": row.all_logits(),
                "llama_bench": row.theirs(0),
                "llama_bench_repacked": row.theirs(1),
                "ratio": row.ratio(),
                "limit": work.limit(peaks, row.n, 1),
                "limit_all_logits": work.limit(peaks, row.n, row.n),
            })
        })
        .collect();
    format!("{report:#}")
}

/// For people.
pub fn table(bench: &Bench, work: Work, peaks: Peaks, rows: &[Row]) -> String {
    let operations = peaks.operations.map_or(String::new(), |o| {
        format!(" and {:.0} G 8-bit operations/s", o / 1e9)
    });
    let mut text = format!(
        "{}\na token: {:.1} MB and {:.2} G operations; this machine: {:.1} GB/s{operations}\n\
         tokens/s; the logits of the last token of a batch, and of all; the limit is that of reading and multiplying \
         the weights that these need at those speeds, without attention\n\n\
         | batch | as stored | repacked | cloister | ratio | limit | reached | all logits | limit | reached |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        head(bench),
        work.bytes() / 1e6,
        work.operations() / 1e9,
        peaks.bytes / 1e9,
    );
    let figure = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
    };
    for row in rows {
        let reached = |speed: f64, wanted: u32| {
            let limit = work.limit(peaks, row.n, wanted);
            format!("{limit:.1} | {:.0} %", 100.0 * speed / limit)
        };
        text += &format!(
            "\n| {} | {} | {} | {:.1} | {} | {} | {:.1} | {} |",
            row.n,
            figure(row.theirs(0), 1),
            figure(row.theirs(1), 1),
            row.ours(),
            figure(row.ratio(), 2),
            reached(row.ours(), 1),
            row.all_logits(),
            reached(row.all_logits(), row.n),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_that_of_its_own_round() {
        let sample = |ours, theirs| Sample {
            ours,
            all_logits: ours,
            theirs: Some(theirs),
        };
        let row = Row {
            n: 4,
            samples: vec![
                sample(20.0, [10.0, 5.0]),
                sample(8.0, [1.0, 2.0]),
                sample(3.0, [1.0, 0.5]),
            ],
        };
        assert_eq!(row.ratio(), Some(3.0));
        assert_eq!(row.ours(), 8.0);
    }
}
