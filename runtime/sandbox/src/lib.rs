//! What a process of the box may ask of the kernel, and the seal after which it can ask for nothing else.
//!
//! In: a [`Policy`], from a process that has one thread and has opened whatever it listens on. Out: a [`Seal`],
//! which says what the running kernel enforces from then on and what it cannot.
//! Must never claim what is not enforced, and never make a program fail on a kernel that lacks something: there
//! it enforces what it can and says the rest in one line.

mod calls;
mod files;
mod foreign;
mod namespace;
pub mod observed;
mod privileges;
pub mod processes;
pub mod report;
mod status;

use std::path::{Path, PathBuf};

pub use foreign::listens_only;
pub use status::{Socket, Status};

/// Which sockets a process may use once it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// None at all.
    None,
    /// Those that it has opened before and that are connected, as by its own two ends, by which tokio hears of signals.
    Connected,
    /// Those that it has opened before, and the connections that others make to these.
    Accepted,
    /// Streams that it opens: to Unix sockets, and over TCP to this port of any address.
    Broker {
        /// The port.
        port: u16,
    },
    /// Streams that it opens to Unix sockets.
    Unix,
}

/// What a process may do once it is sealed. Without further words: compute, and read what the kernel tells about
/// the machine.
#[derive(Clone, Debug)]
pub struct Policy {
    sockets: Sockets,
    children: bool,
    ends_others: bool,
    devices: bool,
    device_files: Vec<PathBuf>,
    landlock: u32,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    connect: Vec<PathBuf>,
}

impl Policy {
    /// With these sockets, and no files.
    pub fn new(sockets: Sockets) -> Self {
        Self {
            sockets,
            children: false,
            ends_others: false,
            devices: false,
            device_files: Vec::new(),
            landlock: files::NEWEST,
            read: Vec::new(),
            write: Vec::new(),
            connect: Vec::new(),
        }
    }

    /// May read this file; or of this folder everything below it, and what the links directly in it lead to now.
    /// What is not there is passed over, so that the program's own words about it are those that are read.
    pub fn read(mut self, path: impl AsRef<Path>) -> Self {
        self.read.extend(files::with_links(path.as_ref()));
        self
    }

    /// May read, write, make and remove everything below this folder.
    pub fn write(mut self, folder: impl Into<PathBuf>) -> Self {
        self.write.push(folder.into());
        self
    }

    /// May connect to the Unix sockets below this folder, where [`Sockets`] lets it connect at all. Kernels before
    /// Landlock's version 9 do not tell Unix sockets apart.
    pub fn connect(mut self, folder: impl Into<PathBuf>) -> Self {
        self.connect.push(folder.into());
        self
    }

    /// May have children, which are copies of itself under the same seal: exec stays refused. What memory they may have it
    /// may limit.
    pub fn children(mut self) -> Self {
        self.children = true;
        self
    }

    /// May end processes that it has started before, under whichever user: it may send signals, and as root it keeps
    /// the one capability for that, `CAP_KILL`.
    pub fn ends_others(mut self) -> Self {
        self.ends_others = true;
        self
    }

    /// May ask the devices that are open: GPIO lines, I2C and SPI buses, watchdogs.
    pub fn asks_devices(mut self) -> Self {
        self.devices = true;
        self
    }

    /// May open the files of devices below this folder, to read, to write and to ask; not make any.
    pub fn devices(mut self, folder: impl Into<PathBuf>) -> Self {
        self.device_files.push(folder.into());
        self
    }

    /// Asks Landlock for no more than this version of it has, as on an older kernel: 0 for one without it. For tests.
    pub fn landlock_up_to(mut self, version: u32) -> Self {
        self.landlock = version;
        self
    }

    /// Seals this process and all threads and children that it will have, for good.
    ///
    /// # Errors
    /// It has a second thread already, which would stay unsealed; or the kernel has what is asked of it and
    /// refuses it all the same.
    pub fn seal(self) -> Result<Seal, Error> {
        if status::threads() > 1 {
            return Err(Error::Threads);
        }
        let namespace = match self.sockets {
            Sockets::Accepted => namespace::enter_an_empty_one(),
            // Who connects to others needs the machine's own network; who has no sockets needs none.
            Sockets::Broker { .. } | Sockets::Unix | Sockets::Connected | Sockets::None => {
                Namespace::Shared
            }
        };
        privileges::no_new_privileges()?;
        privileges::drop_capabilities(self.ends_others)?;
        let files = files::restrict(&self)?;
        // After the capabilities, whose change would set it back.
        no_core_dumps()?;
        let calls = calls::filter(&self)?;
        let seal = Seal {
            sockets: self.sockets,
            namespace,
            landlock: files,
            calls,
            signals: self.children || self.ends_others,
        };
        Ok(seal)
    }
}

/// Has the kernel never write this process's memory to a disk, and no process of the same user read it.
///
/// # Errors
/// The kernel refuses it.
pub fn no_core_dumps() -> Result<(), Error> {
    privileges::no_core_dumps()
}

/// In which network namespace a sealed process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// One of its own, without any interface but loopback.
    Empty,
    /// One of its own without any interface, in a namespace of users where it sees itself and, in place of each
    /// other user, 65534.
    EmptyWithOneUser,
    /// The machine's: it has to connect, or has no sockets at all.
    Shared,
    /// The machine's, as the kernel refuses another.
    Refused,
}

/// What the kernel enforces of a [`Policy`].
#[derive(Clone, Debug)]
pub struct Seal {
    /// The sockets that may be used.
    pub sockets: Sockets,
    /// The network namespace.
    pub namespace: Namespace,
    /// The version of Landlock that holds, 0 without one.
    pub landlock: u32,
    /// Whether system calls are filtered.
    pub calls: bool,
    /// Whether it may send signals to processes.
    pub signals: bool,
}

impl Seal {
    /// What the running kernel cannot enforce, each as half a sentence; nothing where it can all of it.
    pub fn gaps(&self) -> Vec<&'static str> {
        let broker = matches!(self.sockets, Sockets::Broker { .. });
        let connects = broker || self.sockets == Sockets::Unix;
        let gaps = [
            (
                !self.calls,
                "no filter of system calls (seccomp): new connections and other programs are not refused",
            ),
            (
                self.landlock == 0,
                "no Landlock: files are limited by their permissions alone",
            ),
            (
                (1..3).contains(&self.landlock),
                "Landlock before version 3: files that may be read can be cut short",
            ),
            (
                broker && self.landlock < 4,
                "Landlock before version 4: connections to other ports than the broker's are not refused",
            ),
            (
                self.landlock < 6 && connects,
                "Landlock before version 6: abstract Unix sockets of others can be reached",
            ),
            (
                self.landlock < 6 && self.signals,
                "Landlock before version 6: other processes of this user can be sent signals",
            ),
            (
                self.landlock < 9 && connects,
                "Landlock before version 9: every Unix socket that this user may write to can be reached",
            ),
            (
                self.namespace == Namespace::Refused,
                "no network namespace of its own",
            ),
        ];
        let open = gaps.into_iter().filter(|(open, _)| *open);
        open.map(|(_, gap)| gap).collect()
    }

    /// What holds and what does not, as one line for the log.
    pub fn line(&self) -> String {
        let calls = if self.calls {
            "filtered"
        } else {
            "NOT filtered"
        };
        let network = match self.namespace {
            Namespace::Empty | Namespace::EmptyWithOneUser => "empty",
            Namespace::Shared | Namespace::Refused => "shared",
        };
        let files = match self.landlock {
            0 => "NOT limited".to_owned(),
            version => format!("limited by Landlock {version}"),
        };
        let gaps = match self.gaps() {
            gaps if gaps.is_empty() => String::new(),
            gaps => format!("; this kernel cannot enforce all: {}", gaps.join("; ")),
        };
        format!("sealed: system calls {calls}, files {files}, network namespace {network}{gaps}")
    }
}

/// Why a process cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is a second thread already, which the seal would leave out.
    #[error("cannot seal a process that has a second thread already")]
    Threads,
    /// The kernel refused what it should have done.
    #[error("cannot seal this process: {what}: {source}")]
    Refused {
        /// What was asked of the kernel.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// A ruleset or filter could not be made.
    #[error("cannot seal this process: {0}")]
    Rules(String),
}

impl Error {
    /// The answer that the kernel has just given.
    fn last(what: &'static str) -> Self {
        let source = std::io::Error::last_os_error();
        Self::Refused { what, source }
    }
}
