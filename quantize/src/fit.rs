//! `--fit` and `--board`: the best mix of types whose model runs within some memory.
//!
//! In: a model's header, a context, bytes. Out: a file type, and the table of what was weighed. It
//! must never choose what does not fit.

use std::cmp::Reverse;
use std::fmt::Write;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::ValueEnum;
use cloister_gguf::{Metadata, TensorInfo};
use cloister_program::output;

use crate::file_type::FileType::{self, *};
use crate::running::{Running, mib};
use crate::type_mix::{ModelShape, Recipe};

/// What is weighed, the best first: by size, as no type was seen to lose less than a larger one of these where both were
/// measured (`tests/bench/RESULTS.md`). Q8_0 is as good as the original.
const CANDIDATES: [FileType; 20] = [
    Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q4_K_M, Q4_K_S, IQ4_XS, Q3_K_L, Q3_K_M, IQ3_M, Q3_K_S, IQ3_XS,
    IQ3_XXS, Q2_K, IQ2_M, IQ2_S, IQ2_XS, IQ2_XXS, IQ1_M, IQ1_S,
];

/// Memory, as a person writes it: a number and KiB, MiB, GiB, kB, MB or GB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "KiB" => 1u64 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => 0,
        };
        match digits.trim_end().parse::<f64>() {
            // Above, F64 holds no whole numbers.
            Ok(number) if unit != 0 && number > 0.0 && number * (unit as f64) < 9e15 => {
                Ok(Bytes((number * unit as f64) as u64))
            }
            _ => Err("a number with MiB, GiB, MB or GB is wanted, such as 4GiB".to_owned()),
        }
    }
}

/// Boards, with what a system without a desktop leaves of their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // the names are the documentation
pub enum Board {
    #[value(name = "pi4-4gb")]
    Pi4Gb4,
    #[value(name = "pi4-8gb")]
    Pi4Gb8,
    #[value(name = "pi5-4gb")]
    Pi5Gb4,
    #[value(name = "pi5-8gb")]
    Pi5Gb8,
    #[value(name = "pi5-16gb")]
    Pi5Gb16,
    #[value(name = "orin-nano")]
    OrinNano,
    #[value(name = "orin-nx-16gb")]
    OrinNxGb16,
    #[value(name = "agx-orin-32gb")]
    AgxOrinGb32,
    #[value(name = "agx-orin-64gb")]
    AgxOrinGb64,
}

impl Board {
    /// What a model may take.
    pub fn bytes(self) -> Bytes {
        // A Pi's firmware keeps some tens of MiB, its system takes less than 300 MiB. A Jetson's
        // carve-outs take more than half a GiB, and its system as much again.
        let (pi, jetson) = (512, 1280);
        let (installed, taken) = match self {
            Board::Pi4Gb4 | Board::Pi5Gb4 => (4 << 10, pi),
            Board::Pi4Gb8 | Board::Pi5Gb8 => (8 << 10, pi),
            Board::Pi5Gb16 => (16 << 10, pi),
            Board::OrinNano => (8 << 10, jetson),
            Board::OrinNxGb16 => (16 << 10, jetson),
            Board::AgxOrinGb32 => (32 << 10, jetson),
            Board::AgxOrinGb64 => (64 << 10, jetson),
        };
        Bytes((installed - taken) << 20)
    }
}

/// A mix that was weighed.
struct Weighed {
    recipe: Recipe,
    weights: u64,
    need: u64,
    /// It needs an importance matrix, and there is none.
    lacks_imatrix: bool,
}

/// Chooses the best of the file types with which the model runs in `room`, and raises it as far as there is
/// room. `targets` gives the tensors that a recipe would make, and whether their types lack an importance
/// matrix. Prints the table, whether or not something fits.
pub fn choose(
    room: Bytes,
    running: &Running,
    shape: &ModelShape,
    metadata: &Metadata,
    recipe: &Recipe,
    targets: impl Fn(&Recipe) -> Result<(Vec<TensorInfo>, bool)>,
) -> Result<Recipe> {
    let weigh = |file_type, raised| -> Result<Weighed> {
        let recipe = Recipe {
            file_type,
            raised,
            ..recipe.clone()
        };
        let (tensors, lacks_imatrix) = targets(&recipe)?;
        let need = running.need(metadata, &tensors)?;
        Ok(Weighed {
            recipe,
            weights: need.weights,
            need: need.total(),
            lacks_imatrix,
        })
    };
    let mut weighed = Vec::new();
    for file_type in CANDIDATES {
        weighed.push(weigh(file_type, 0)?);
    }
    let best = weighed
        .iter()
        .position(|w| !w.lacks_imatrix && w.need <= room.0);
    if let Some(best) = best {
        let file_type = weighed[best].recipe.file_type;
        // The most that fits lies in `low..high`.
        let (mut low, mut high) = (0, weighed[best].recipe.raisable(shape) + 1);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let raised = weigh(file_type, middle)?;
            if raised.need <= room.0 {
                (low, weighed[best]) = (middle, raised);
            } else {
                high = middle;
            }
        }
    }
    let chosen = best.map(|best| weighed[best].recipe.clone());
    weighed.sort_by_key(|w| Reverse(w.need));
    output::print(table(&weighed, chosen.as_ref(), room))?;
    let Some(chosen) = chosen else {
        let possible = weighed.iter().rfind(|w| !w.lacks_imatrix);
        let smallest = possible.expect("some types need no imatrix");
        let with = match weighed.iter().any(|w| w.need <= room.0) {
            true => "an --imatrix, which smaller types need, ",
            false => "",
        };
        bail!(
            "nothing fits into {} MiB with {} tokens of context: {}, the smallest, needs {} MiB; \
             use {with}a smaller --ctx, --kv-type q8_0 or a smaller model",
            room.0 >> 20,
            running.ctx,
            smallest.recipe.file_type,
            mib(smallest.need)
        );
    };
    Ok(chosen)
}

fn table(weighed: &[Weighed], chosen: Option<&Recipe>, room: Bytes) -> String {
    let mut out = format!("type     weights MiB  to run MiB  of {}\n", room.0 >> 20);
    for one in weighed {
        let Recipe {
            file_type, raised, ..
        } = one.recipe;
        let judged = match one {
            _ if chosen.is_some_and(|chosen| chosen.file_type == file_type) => match raised {
                0 => "chosen".to_owned(),
                n => format!("chosen, with ffn_down_exps of {n} more layers raised"),
            },
            _ if one.need > room.0 => "too large".to_owned(),
            _ if one.lacks_imatrix => "needs --imatrix".to_owned(),
            _ => "fits".to_owned(),
        };
        let (weights, need) = (mib(one.weights), mib(one.need));
        let name = file_type.name();
        writeln!(out, "{name:8} {weights:>11}  {need:>10}  {judged}")
            .expect("writing to a String does not fail");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_number_with_its_unit() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("1.5 GiB", 3 << 29),
            ("512MiB", 512 << 20),
            ("8GB", 8_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in [
            "4", "4G", "GiB", "-1GiB", "0GiB", "nanGiB", "infGiB", "1e99GiB", "",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_board_keeps_some_memory_for_its_system() {
        for board in Board::value_variants() {
            let name = board.to_possible_value().unwrap().get_name().to_owned();
            let gigabytes = name.rsplit('-').next().unwrap().strip_suffix("gb");
            let installed: u64 = gigabytes.unwrap_or("8").parse().unwrap();
            let left = board.bytes().0;
            assert!(
                left < installed << 30 && left > (installed << 30) * 4 / 5,
                "{name}"
            );
        }
    }
}
