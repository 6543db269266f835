//! Changed copies of what is sound, by a generator that repeats itself: for the tests of readers in several crates,
//! which take this file in by its path.

/// What numbers, names and texts of JSON are replaced by.
const WORDS: [&str; 17] = [
    "-1",
    "0",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "1e999",
    "0.1e-400",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
];

/// A xorshift64 generator.
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Random {
    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    /// Changes one to four things in `bytes`.
    pub fn change_some(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            self.change(bytes);
        }
    }

    /// Changes one thing in `bytes`.
    pub fn change(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return bytes.push(self.0 as u8);
        }
        let at = self.below(bytes.len());
        let rest = bytes.len() - at;
        match self.below(7) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            2 => bytes.truncate(at),
            3 => {
                let part = bytes[at..at + self.below(rest.min(64)) + 1].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, part);
            }
            4 => {
                let end = at + self.below(rest.min(64)) + 1;
                bytes.drain(at..end);
            }
            5 if rest >= 8 => {
                let number = [0, 1, 1 << 31, 1 << 32, 1 << 62, u64::MAX][self.below(6)];
                bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(number));
            }
            _ => {
                // A value of JSON as a whole, where one begins.
                let is_part = |b: &u8| b.is_ascii_alphanumeric() || b".\"-_".contains(b);
                let end = at + bytes[at..].iter().take_while(|b| is_part(b)).count();
                let word = WORDS[self.below(WORDS.len())].bytes();
                bytes.splice(at..end, word);
            }
        }
    }
}
