//! `manyhands-sandboxd`: process 1 of a sandbox. Started by the server with descriptors and settings as arguments;
//! not meant to be started by hand.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use manyhands_sandboxd::archive::Bounds;
use manyhands_sandboxd::bridge::{self, Keeper};
use manyhands_sandboxd::door::carrier::carry;
use manyhands_sandboxd::door::porch::Porch;
use manyhands_sandboxd::door::{self, Door};
use manyhands_sandboxd::exchange;
use manyhands_sandboxd::filter;
use manyhands_sandboxd::memory::{self, Folders};
use manyhands_sandboxd::parcel;
use manyhands_sandboxd::reaper::Reaper;
use manyhands_sandboxd::serve::{Parts, serve};
use manyhands_sandboxd::shell::{self, Limits};
use manyhands_sandboxd::tools::Place;
use rustix::fs::{CWD, Mode, OFlags, openat};

mod command;
mod inherited;

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("--version") => {
            println!("manyhands-sandboxd {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Some("connect") => {
            let (input, output) = (std::io::stdin(), std::io::stdout());
            bridge::connect(input, output, Path::new(bridge::LOBBY), START_LIMIT)
                .map_err(Into::into)
        }
        Some("carry") => carry_clients(),
        Some("knock") => knock(),
        Some("run") => match command::run(std::env::args_os().skip(2)) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Some("hold") => command::hold(std::env::args().skip(2)),
        Some("rest") => command::rest(std::env::args().skip(2)),
        Some("lay") => files(|root| exchange::lay(root, std::io::stdin(), std::io::stdout())),
        Some("show") => files(|root| exchange::show(root, std::io::stdin(), std::io::stdout())),
        Some("memory") => memories(),
        Some("pack") => tree(|folders, bounds| parcel::pack(folders, bounds, std::io::stdout())),
        Some("unpack") => tree(|folders, bounds| {
            parcel::unpack(folders, bounds, std::io::stdin(), std::io::stdout())
        }),
        _ => run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manyhands-sandboxd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Carries clients of the way out over the standard streams.
fn carry_clients() -> Result<(), Box<dyn std::error::Error>> {
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let output = std::io::stdout().as_fd().try_clone_to_owned()?;
    let lobby = Path::new(bridge::LOBBY);
    Ok(carry(input.into(), output.into(), lobby, START_LIMIT)?)
}

/// Tries whether the socket that is named after the mode can be reached.
fn knock() -> Result<(), Box<dyn std::error::Error>> {
    let socket = std::env::args_os().nth(2).ok_or("a socket is missing")?;
    UnixStream::connect(socket)?;
    Ok(())
}

/// Works on the files of the folder that is named after the mode.
fn files(
    work: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), Box<dyn std::error::Error>> {
    // It shares its user with tools, which must not read or write its memory.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    let root = std::env::args_os().nth(2).ok_or("a folder is missing")?;
    Ok(work(Path::new(&root))?)
}

/// Answers for the folders of memory stores: the words after the mode are the folder above them and where files are kept that
/// no store has taken. It may be looked at, since it watches folders by its own handles; it has nothing to hide, and what it
/// says is data.
fn memories() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args_os().skip(2);
    let mut open = || -> Result<OwnedFd, Box<dyn std::error::Error>> {
        let path = words.next().ok_or("a folder is missing")?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(CWD, Path::new(&path), flags, Mode::empty())?)
    };
    let folders = Folders::new(open()?, open()?, None);
    let (input, output) = (std::io::stdin(), std::io::stdout());
    Ok(memory::watch::serve(&folders, input, output)?)
}

/// Works on all that a sandbox writes: the words after the mode are the most bytes, the most entries, and the folders. No tool
/// runs meanwhile, so nobody is kept from our memory: what belongs to a process that may not be looked at is also closed to
/// itself, and some files are reached by that way.
fn tree(
    work: impl FnOnce(&parcel::Folders, Bounds) -> std::io::Result<()>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(2);
    let mut number = || words.next().ok_or("a bound is missing");
    let bounds = Bounds {
        bytes: number()?.parse()?,
        entries: number()?.parse()?,
    };
    Ok(work(&parcel::Folders::parse(words)?, bounds)?)
}

/// How long a process 1 that was just started may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

struct Arguments {
    listening: Listening,
    instance: String,
    place: Place,
    idle_limit: Duration,
    limits: Limits,
    /// System-call filters, in order.
    filters: Vec<PathBuf>,
    /// The socket that the way out leads to, if there is one.
    door: Option<PathBuf>,
    /// Whose carriers the way out leads to, if there is no such socket.
    carriers: Option<Keeper>,
}

/// Where servers connect.
enum Listening {
    /// A socket that the server has bound, and a pipe that is told when it can connect.
    Given { listener: OwnedFd, ready: OwnedFd },
    /// A socket in the container, which only this user may use.
    Here(Keeper),
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments {
        listening,
        instance,
        place,
        idle_limit,
        limits,
        filters,
        door,
        carriers,
    } = arguments()?;
    // Before there are threads, so that they hold for all of us.
    for path in filters {
        filter::install(&path)?;
    }
    // The tools' processes share our user: they must not read or write our memory.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    // As process 1 orphans are ours anyway; this makes it so elsewhere.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let reaper = Reaper::start()?;
    let shell = shell::Handle::start(place.clone(), limits, reaper)?;
    if let Some(socket) = door {
        Door::bind(door::ADDRESS, socket)?.serve()?;
    }
    if let Some(keeper) = carriers {
        Porch::bind(door::ADDRESS, keeper)?.serve()?;
    }
    let (listener, keeper) = match listening {
        // Listening here, not in the server, makes us the peer that the server sees when it connects.
        Listening::Given { listener, ready } => {
            rustix::net::listen(&listener, 16)?;
            std::fs::File::from(ready).write_all(b"r")?;
            (UnixListener::from(listener), None)
        }
        Listening::Here(keeper) => {
            let listener = keeper.listen()?;
            bridge::announce(Path::new(bridge::LOBBY))?;
            (listener, Some(keeper))
        }
    };
    detach()?;
    serve(
        &listener,
        Parts {
            instance,
            place,
            shell,
            idle_limit,
            keeper,
        },
    )?;
    Ok(())
}

/// Lets go of the standard streams that the server gave us.
fn detach() -> std::io::Result<()> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    rustix::stdio::dup2_stderr(null.as_fd())?;
    Ok(())
}

fn arguments() -> Result<Arguments, String> {
    let (mut listener, mut ready, mut instance, mut root, mut spill, mut door) =
        (None, None, None, None, None, None);
    let (mut keeper, mut carriers, mut filters) = (None, None, Vec::new());
    let (mut idle_limit, mut limits) = (Duration::from_secs(600), Limits::default());
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name} needs a number, not {value}"))
        };
        let user = || {
            let number = u32::try_from(number()?).ok().map(Keeper);
            number.ok_or_else(|| format!("{name} is no user's number"))
        };
        match name.as_str() {
            "--listen-fd" => listener = Some(inherited::take(number()?)?),
            "--ready-fd" => ready = Some(inherited::take(number()?)?),
            "--keeper" => keeper = Some(user()?),
            "--carriers" => carriers = Some(user()?),
            "--filter" => filters.push(PathBuf::from(value)),
            "--instance" => instance = Some(value),
            "--root" => root = Some(PathBuf::from(value)),
            "--spill" => spill = Some(PathBuf::from(value)),
            "--door" => door = Some(PathBuf::from(value)),
            "--idle-seconds" => idle_limit = Duration::from_secs(number()?),
            "--processes" => limits.processes = Some(number()?),
            "--open-files" => limits.open_files = Some(number()?),
            "--file-bytes" => limits.file_bytes = Some(number()?),
            "--data-bytes" => limits.data_bytes = Some(number()?),
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    let missing = |name: &str| format!("{name} is missing");
    let listening = match keeper {
        Some(keeper) => Listening::Here(keeper),
        None => Listening::Given {
            listener: listener.ok_or_else(|| missing("--listen-fd"))?,
            ready: ready.ok_or_else(|| missing("--ready-fd"))?,
        },
    };
    Ok(Arguments {
        listening,
        instance: match instance {
            Some(instance) => instance,
            None => new_instance().map_err(|error| format!("no name for this start: {error}"))?,
        },
        place: Place {
            root: root.ok_or_else(|| missing("--root"))?,
            spill: spill.ok_or_else(|| missing("--spill"))?,
        },
        idle_limit,
        limits,
        filters,
        door,
        carriers,
    })
}

/// A name for a start that nobody else gave one; never given twice.
fn new_instance() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
