//! Defines `rgunicorn ctl`: it says one command to a running server, over its control socket, and
//! shows the answer.
//!
//! Invariant: standard output has what the server answered and nothing else, and the exit code is 0
//! only if the server has done what it was told.

mod show;
mod text;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::Value;

use self::text::{printable, printable_json};
use super::Failed;
use crate::arbiter::exit::ExitCode;
use crate::protocol::control::{Answer, Command as Order, What};
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::protocol::report::Report;
use crate::sys::channel::{Channel, Recv};

/// Names the socket when the command line does not. The server reads it too.
const VARIABLE: &str = "RGUNICORN_CONTROL_SOCKET";
/// How the server's setting says that there is no socket.
const NO_SOCKET: &str = "none";
/// The server answers at once, unless it has to start workers first.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to say, to whom, and how to show the answer.
#[derive(Debug, PartialEq)]
struct Request {
    socket: PathBuf,
    json: bool,
    /// `None` waits for ever.
    patience: Option<Duration>,
    order: Order,
    /// The order as it was written.
    verb: String,
}

/// A whole answer.
#[derive(Debug, PartialEq)]
struct Answered {
    document: Vec<u8>,
    /// The last word, or why it was not done.
    last: Result<String, String>,
}

/// The verb and its arguments.
pub(super) fn command() -> Command {
    let socket = Arg::new("socket")
        .long("socket")
        .value_name("PATH")
        .global(true)
        .value_parser(value_parser!(PathBuf))
        .help(format!(
            "The server's --control-socket [default: the variable {VARIABLE}]"
        ));
    let json = Arg::new("json")
        .long("json")
        .global(true)
        .action(ArgAction::SetTrue)
        .help("Answer in JSON");
    let timeout = Arg::new("timeout")
        .long("timeout")
        .value_name("SECS")
        .global(true)
        .value_parser(value_parser!(u32))
        .help(
            "Give up when there is no answer by then; 0 waits for ever \
             [default: 10; 0 for reload and upgrade]",
        );
    Command::new("ctl")
        .about("Look into a running server, and order it about")
        .after_help(
            "Exit codes: 0 it is done, 1 the server refuses or cannot be reached, 2 the command \
             line is wrong.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args([socket, json, timeout])
        .subcommands(subcommands())
}

fn subcommands() -> [Command; 6] {
    let what = Arg::new("what")
        .value_name("WHAT")
        .value_parser(PossibleValuesParser::new(What::EACH.map(What::name)))
        .default_value(What::All.name())
        .help("all is everything but config");
    let how = Arg::new("how")
        .value_name("HOW")
        .value_parser(["graceful", "quick"])
        .default_value("graceful")
        .help("quick drops the requests that are in flight");
    [
        Command::new("show")
            .about("Show workers, apps, listeners, settings or counters")
            .arg(what),
        worker_command(),
        Command::new("reload")
            .about("Read the settings and the apps again, and wait until they are served")
            .long_about(
                "Reads the settings and the apps again, and waits until new workers serve them. \
                 If anything is wrong with them the server goes on as it was, and says why.",
            ),
        Command::new("reopen").about("Open the log files again, after they were moved"),
        Command::new("upgrade")
            .about("Start the program again from its file, and wait until the new one serves")
            .long_about(
                "Starts the program again from its file, on the same sockets, and waits until the \
                 new one serves. If it does not come to that the server goes on as it was, and \
                 says why.",
            ),
        Command::new("shutdown").about("Stop the server").arg(how),
    ]
}

fn worker_command() -> Command {
    let number = Arg::new("number")
        .value_name("N")
        .value_parser(value_parser!(u32).range(1..))
        .default_value("1")
        .help("How many");
    let pid = Arg::new("pid")
        .value_name("PID")
        .required(true)
        .value_parser(value_parser!(u32).range(1..))
        .help("Its process number");
    Command::new("worker")
        .about("Change the number of workers, or replace one")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            Command::new("add")
                .about("Add workers, until the next reload")
                .arg(number.clone()),
            Command::new("remove")
                .about("Let workers finish and leave, until the next reload")
                .arg(number),
            Command::new("kill")
                .about("Let one worker finish and leave, and replace it")
                .arg(pid),
        ])
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, Failed> {
    let request = request(matches, std::env::var_os(VARIABLE))?;
    let failed = |error: String| {
        let text = format!("ctl {}: {}", request.verb, printable(&error));
        Failed::new(ExitCode::Failure, text)
    };
    let answered = ask(&request).map_err(failed)?;
    let (text, code) = if request.json {
        json(&answered).map_err(failed)?
    } else {
        (human(&answered).map_err(failed)?, ExitCode::Ok)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads the output may have gone; the exit code still tells.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(failed(format!("cannot print: {error}")))
        }
        Ok(()) | Err(_) => Ok(code),
    }
}

fn request(matches: &ArgMatches, variable: Option<OsString>) -> Result<Request, Failed> {
    let usage = |text: &str| Failed::new(ExitCode::Usage, text);
    let (order, verb) =
        order(matches).ok_or_else(|| usage("unknown order; see rgunicorn ctl --help"))?;
    let variable = variable.filter(|path| !path.is_empty() && path != NO_SOCKET);
    let socket = matches.get_one::<PathBuf>("socket").cloned();
    let socket = socket
        .or_else(|| variable.map(PathBuf::from))
        .ok_or_else(|| {
            usage(&format!(
                "ctl: which server? Name its control socket with --socket PATH or in {VARIABLE}"
            ))
        })?;
    let patience = match (matches.get_one::<u32>("timeout"), order) {
        (Some(0), _) | (None, Order::Reload | Order::Upgrade) => None,
        (Some(seconds), _) => Some(Duration::from_secs(u64::from(*seconds))),
        (
            None,
            Order::Show(_)
            | Order::WorkerAdd(_)
            | Order::WorkerRemove(_)
            | Order::WorkerKill { .. }
            | Order::Reopen
            | Order::Shutdown { .. },
        ) => Some(PATIENCE),
    };
    Ok(Request {
        socket,
        json: matches.get_flag("json"),
        patience,
        order,
        verb,
    })
}

/// The order, and how it is written. Clap lets nothing else through.
fn order(matches: &ArgMatches) -> Option<(Order, String)> {
    let number = |matches: &ArgMatches, name| matches.get_one::<u32>(name).copied();
    let word = |matches: &ArgMatches, name| matches.get_one::<String>(name).cloned();
    let (verb, matches) = matches.subcommand()?;
    let order = match verb {
        "show" => {
            let name = word(matches, "what")?;
            let mut each = What::EACH.into_iter();
            Order::Show(each.find(|what| what.name() == name)?)
        }
        "worker" => {
            let (verb, matches) = matches.subcommand()?;
            let order = match verb {
                "add" => Order::WorkerAdd(number(matches, "number")?),
                "remove" => Order::WorkerRemove(number(matches, "number")?),
                "kill" => Order::WorkerKill {
                    pid: number(matches, "pid")?,
                },
                _ => return None,
            };
            return Some((order, format!("worker {verb}")));
        }
        "reload" => Order::Reload,
        "reopen" => Order::Reopen,
        "upgrade" => Order::Upgrade,
        "shutdown" => Order::Shutdown {
            quick: word(matches, "how")? == "quick",
        },
        _ => return None,
    };
    Some((order, verb.to_owned()))
}

/// Asks the server that the request names.
fn ask(request: &Request) -> Result<Answered, String> {
    let channel =
        Channel::connect(&request.socket).map_err(|error| unreachable(&request.socket, &error))?;
    converse(&channel, request.order, request.patience)
}

/// Why there is no server at `path`, and what to do about it.
fn unreachable(path: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "does a server run with this --control-socket?",
        io::ErrorKind::ConnectionRefused => {
            "no server listens there any more; does one run with this --control-socket?"
        }
        io::ErrorKind::PermissionDenied => "only the server's user and root may",
        io::ErrorKind::WouldBlock => "too many others are asking; try again",
        _ => "is it the --control-socket of a server?",
    };
    format!("cannot connect to {}: {error}; {advice}", path.display())
}

/// Says the one command of a connection, and hears its answer.
fn converse(
    channel: &Channel,
    order: Order,
    patience: Option<Duration>,
) -> Result<Answered, String> {
    let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
    let said = channel.send_blocking(&order.encode(), &[]);
    let mut document = Vec::new();
    let mut buffer = [0; FRAME_BYTES_MAX];
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let len = match (channel.recv_blocking(&mut buffer, left), &said) {
            (Ok(Recv::Frame { len, .. }), _) => len,
            // A server that closes at once may still have said why.
            (Ok(Recv::Eof | Recv::Empty), Err(error)) => {
                return Err(format!("the server does not listen: {error}"));
            }
            (Ok(Recv::Eof | Recv::Empty), Ok(())) => {
                return Err(
                    "the server has closed the connection without an answer; its log may \
                            tell why"
                        .to_owned(),
                );
            }
            (Err(error), _) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(late(patience.unwrap_or_default(), order));
            }
            (Err(error), _) => return Err(format!("cannot hear the server: {error}")),
        };
        let last = match Answer::decode(&buffer[..len]) {
            Ok(Answer::Part(part)) => {
                document.extend(part);
                continue;
            }
            Ok(Answer::Done(text)) => Ok(text),
            Ok(Answer::Refused(reason)) => Err(reason),
            Err(error) => return Err(not_understood(&error)),
        };
        return Ok(Answered { document, last });
    }
}

fn late(patience: Duration, order: Order) -> String {
    let seconds = patience.as_secs();
    match order {
        Order::Show(_) => format!("no answer within {seconds} s; see --timeout"),
        Order::WorkerAdd(_)
        | Order::WorkerRemove(_)
        | Order::WorkerKill { .. }
        | Order::Reload
        | Order::Reopen
        | Order::Upgrade
        | Order::Shutdown { .. } => {
            format!("no answer within {seconds} s, but it may still be done; see --timeout")
        }
    }
}

fn not_understood(error: &dyn std::fmt::Display) -> String {
    format!("the server's answer is not understood: {error}; is it of another version?")
}

/// The answer for people; an error is what the server did not do, and why.
fn human(answered: &Answered) -> Result<String, String> {
    let text = answered.last.as_ref().map_err(String::clone)?;
    if !answered.document.is_empty() {
        let report = serde_json::from_slice::<Report>(&answered.document);
        return report
            .map(|report| show::show(&report))
            .map_err(|error| not_understood(&error));
    }
    let text = if text.is_empty() { "done" } else { text };
    Ok(printable(text) + "\n")
}

/// The answer for programs, which includes that it was not done.
fn json(answered: &Answered) -> Result<(String, ExitCode), String> {
    let status = |status: &str, message: &str| {
        let message = Value::from(message);
        format!("{{\"status\":\"{status}\",\"message\":{message}}}")
    };
    let (text, code) = match &answered.last {
        Ok(_) if !answered.document.is_empty() => {
            // As the server wrote it: it may know fields that this program does not.
            let text =
                str::from_utf8(&answered.document).map_err(|error| not_understood(&error))?;
            serde_json::from_str::<Value>(text).map_err(|error| not_understood(&error))?;
            (text.to_owned(), ExitCode::Ok)
        }
        Ok(message) => (status("ok", message), ExitCode::Ok),
        Err(reason) => (status("refused", reason), ExitCode::Failure),
    };
    Ok((printable_json(&text) + "\n", code))
}

#[cfg(test)]
mod tests;
