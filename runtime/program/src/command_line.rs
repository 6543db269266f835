//! The command line: options, or one line that says what is wrong with them.
//!
//! In: the arguments and `CLOISTER_*` in the environment, by `clap`. Out: options.
//! Must never say more than one line of a mistake: what called the program may have to show it. Must never
//! take a password.

use clap::error::ErrorKind;
use clap::{Command, Parser};

/// Reads the command line. Ends the process where there is nothing to run: with exit code 0 after
/// `--help` or `--version`, with 2 and one line on standard error after a mistake.
pub fn parse<T: Parser>() -> T {
    #[cfg(feature = "documents")]
    if let Some(folder) = std::env::var_os("CLOISTER_DOCUMENTS") {
        crate::documents::write(T::command(), folder.as_ref()).expect("the folder is there");
        std::process::exit(0);
    }
    if std::env::args().any(|argument| holds_a_password(&argument)) {
        eprintln!(
            "{}: everybody on this machine can read a password in a command line; give it by the environment or a file, see --help",
            T::command().get_name()
        );
        std::process::exit(2);
    }
    T::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        let first = std::env::args().nth(1);
        eprintln!("{}", in_one_line(&error, &T::command(), first.as_deref()));
        std::process::exit(2)
    })
}

/// Whether this is a URL with a password in it.
fn holds_a_password(argument: &str) -> bool {
    argument
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'))
        .is_some_and(|(login, _)| login.contains(':'))
}

/// `program: what is wrong; see program --help`. `first` is the first argument, which may be a
/// subcommand.
fn in_one_line(error: &clap::Error, program: &Command, first: Option<&str>) -> String {
    let mut name = program.get_name().to_owned();
    let what = if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let commands = program.get_subcommands();
        let known: Vec<_> = commands
            .filter(|command| !command.is_hide_set())
            .map(Command::get_name)
            .collect();
        format!("a command is missing: {}", known.join(", "))
    } else {
        // The paragraphs of clap's message up to its usage.
        let text = error.to_string();
        let paragraphs: Vec<_> = text
            .split("\n\n")
            .take_while(|text| !text.starts_with("Usage:") && !text.starts_with("For more"))
            .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        paragraphs.join("; ")
    };
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let mut line = format!("{name}: {what}");
    if let Some(command) = first.filter(|first| program.find_subcommand(first).is_some()) {
        name = format!("{name} {command}");
    }
    line.push_str(&format!("; see {name} --help"));
    line
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "box")]
    struct Cli {
        #[command(subcommand)]
        _command: Sub,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        Up {
            #[arg(long)]
            port: Option<u16>,
            #[arg(long, conflicts_with = "port")]
            listen: Option<String>,
        },
        #[command(hide = true)]
        Inner,
        Bench {
            #[arg(long)]
            model: String,
            #[arg(long, value_parser = ["f16", "q8_0"])]
            kind: Option<String>,
        },
    }

    fn line(arguments: &str) -> String {
        let words: Vec<_> = arguments.split_whitespace().collect();
        let error = Cli::try_parse_from(["box"].into_iter().chain(words.iter().copied()));
        let line = in_one_line(&error.unwrap_err(), &Cli::command(), words.first().copied());
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    }

    #[test]
    fn a_password_in_a_url_is_seen() {
        assert!(holds_a_password("mqtt://me:secret@host"));
        assert!(holds_a_password("--broker=mqtts://me:@[::1]:1"));
        for fine in ["mqtt://me@host:1", "mqtt://[::1]:1", "a:b@c"] {
            assert!(!holds_a_password(fine), "{fine}");
        }
    }

    #[test]
    fn each_mistake_is_one_line_that_names_it_and_where_to_read_on() {
        for (arguments, expected) in [
            (
                "up --port abc",
                "box: invalid value 'abc' for '--port <PORT>': invalid digit found in string; see box up --help",
            ),
            (
                "up --prt 1",
                "box: unexpected argument '--prt' found; tip: a similar argument exists: '--port'; see box up --help",
            ),
            (
                "bench",
                "box: the following required arguments were not provided: --model <MODEL>; see box bench --help",
            ),
            (
                "bench --model m --kind f32",
                "box: invalid value 'f32' for '--kind <KIND>' [possible values: f16, q8_0]; see box bench --help",
            ),
            (
                "up --port 1 --listen x",
                "box: the argument '--port <PORT>' cannot be used with '--listen <LISTEN>'; see box up --help",
            ),
            ("fly", "box: unrecognized subcommand 'fly'; see box --help"),
            ("", "box: a command is missing: up, bench; see box --help"),
        ] {
            assert_eq!(line(arguments), expected);
        }
    }
}
