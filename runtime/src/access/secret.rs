//! Random keys and codes, and what is kept of them.

use std::fmt::Write;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A SHA-256, compared in a time that tells nothing of where two differ.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(String);

impl Hash {
    /// Of a secret.
    pub fn of(secret: &str) -> Self {
        Self(hex(&Sha256::digest(secret)))
    }
}

impl PartialEq for Hash {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

/// 256 random bits, with a word before them by which people and programs that look for leaked keys know it.
pub fn key() -> anyhow::Result<String> {
    Ok(format!("cloister-{}", hex(&random::<32>()?)))
}

/// 128 random bits, for what has no room for more.
pub fn password() -> anyhow::Result<String> {
    Ok(hex(&random::<16>()?))
}

/// Eight random digits.
pub fn code() -> anyhow::Result<String> {
    // 2^64 is so much more than 10^8 that no digit is likelier.
    let number = u64::from_le_bytes(random::<8>()?);
    Ok(format!("{:08}", number % 100_000_000))
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the kernel gives no random bytes")?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_codes_have_their_lengths_and_differ() {
        let (one, other) = (key().unwrap(), key().unwrap());
        assert_eq!(one.len(), "cloister-".len() + 64);
        assert_ne!(one, other);
        let code = code().unwrap();
        assert!(
            code.len() == 8 && code.bytes().all(|b| b.is_ascii_digit()),
            "{code}"
        );
        assert_eq!(
            Hash::of("abc").0,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(Hash::of("a") == Hash::of("a") && Hash::of("a") != Hash::of("b"));
    }
}
