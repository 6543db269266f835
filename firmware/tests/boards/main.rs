//! Boards as their kernels show them: trees of sysfs in a folder of the test's.

mod shown;
mod wired;

use cloister_panel::board::{Board, Outcome};

fn said(board: &Board, what: &str) -> Vec<String> {
    let of = board.findings.iter().filter(|finding| finding.what == what);
    of.map(|finding| match &finding.outcome {
        Outcome::Found { does } => format!("{}: {does}", finding.place),
        Outcome::Missing { why } => format!("{}: no: {why}", finding.place),
    })
    .collect()
}
