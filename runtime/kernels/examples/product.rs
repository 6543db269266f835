//! `product TYPE ROWS K COLUMNS`: one product of weights that are any bytes, so that its instructions can be counted.

use cloister_kernels::WeightType;
use cloister_kernels::product::{Columns, multiply};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| arguments.get(i).and_then(|n: &String| n.parse().ok());
    let named = |t: &WeightType| Some(format!("{t:?}")) == arguments.first().cloned();
    let (Some(weight_type), Some(rows), Some(k), Some(columns)) = (
        WeightType::ALL.iter().copied().find(named),
        number(1),
        number(2),
        number(3),
    ) else {
        eprintln!(
            "usage: product TYPE ROWS K COLUMNS; a type is one of {:?}",
            WeightType::ALL
        );
        std::process::exit(2);
    };
    let weights: Vec<u8> = (0..rows * weight_type.row_bytes(k))
        .map(|i: usize| (i * 7 % 61) as u8)
        .collect();
    let inputs: Vec<f32> = (0..k * columns)
        .map(|i: usize| (i % 13) as f32 - 6.0)
        .collect();
    match Columns::quantize(weight_type, k, &inputs) {
        Some(columns) => println!("{}", multiply(&weights, &columns).iter().sum::<f32>()),
        None => eprintln!("product: this CPU has no kernels"),
    }
}
