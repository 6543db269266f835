//! Standard output: what a command found, for a person or for the next program of a pipe.
//!
//! In: text. Out: the text and a line's end, at once.
//! Must never end the program because nobody reads on, as after `| head -1`: it may be serving a house.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line, or several.
///
/// # Errors
/// It could not be written, as on a full disk; a reader that has gone is none.
pub fn print(text: impl Display) -> io::Result<()> {
    print_to(&mut io::stdout(), text)
}

fn print_to(out: &mut impl Write, text: impl Display) -> io::Result<()> {
    let written = out
        .write_all(format!("{text}\n").as_bytes())
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("cannot print: {error}"),
        )),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        let (reader, mut pipe) = io::pipe().unwrap();
        drop(reader);
        print_to(&mut pipe, "two\nlines").unwrap();

        let mut full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let error = print_to(&mut full, "a line").unwrap_err();
        assert!(error.to_string().starts_with("cannot print: "), "{error}");
    }
}
